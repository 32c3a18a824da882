// Modes that switch on: what the code keeps of each.
import "./d3.js";
import { draw } from "./elements.js";
import { dot } from "./marks.js";
import { BETA, OverBeta } from "./over_beta.js";
import { modeWords } from "./spectrum.js";

export class Growth extends OverBeta {
  constructor(app) {
    super(app, "");
    this.title("Modes switch on at their critical β", "click to go there");
  }
  /** I(X;T) of mode i where β − 1 = e: half the logarithm of e over its critical value. */
  kept(i, e) {
    return Math.max(0, Math.log(e / this.e[i]) / 2) * this.app.factor;
  }
  draw() {
    const { app } = this, g = app.grid_values, last = 10 ** g[g.length - 1];
    this.scale();
    const least = d3.min(app.arrays.excess.values.filter((v) => v > 0));
    const most = Math.max(.5, Math.log(last / least) / 2 * app.factor);
    this.y = d3.scaleLinear([0, most], [this.y0, this.y1]);
    this.axes(this.x, this.y, BETA, `I(X;T) of each mode (${app.get("unit")})`);
    this.own = this.svg.append("g");
    this.line();
    this.dots = this.svg.append("g");
    this.turn();
  }
  /** To another checkpoint: one path for all modes of a colour. */
  turn() {
    const { app } = this, g = app.grid_values, last = 10 ** g[g.length - 1], { k1 } = app.info;
    this.e = app.row("excess");
    this.shown = d3.range(this.e.length).filter((i) => Number.isFinite(this.e[i]) && this.e[i] < last);
    const first = (i) => i < k1 || !k1;
    const groups = [["var(--ncib-muted)", this.shown.filter((i) => !first(i))]];
    groups.push(["var(--ncib-strong)", this.shown.filter(first)]);
    this.groups = groups.filter(([, modes]) => modes.length);
    this.own.selectAll("*").remove();
    for (const [colour, modes] of this.groups) this.lines(colour, modes, g[0], last);
    this.corner();
    this.dots.selectAll("*").remove();
    this.marks = this.groups.map(([fill]) => draw(this.dots, "path", { fill }));
  }
  /** What is kept of each mode, and a tick where it switches on. */
  lines(colour, modes, first, last) {
    const path = (piece) => {
      const d = modes.map((i) => piece(this.x(Math.max(first, Math.log10(this.e[i]))), i)).join("");
      draw(this.own, "path", { class: "ncib-line", stroke: colour, d });
    };
    path((x, i) => `M${x},${this.y(0)}L${this.x1},${this.y(this.kept(i, last))}`);
    path((x) => `M${x},${this.y0 - 5}V${this.y0 + 5}`);
  }
  step() {
    const { app } = this, v = app.grid_values[app.at], e = 10 ** v, { k1, total } = app.info;
    this.move();
    this.groups.forEach(([, modes], j) => {
      const on = modes.filter((i) => this.e[i] < e);
      this.marks[j].attr("d", on.map((i) => dot(this.x(v), this.y(this.kept(i, e)))).join("") || null);
    });
    const blue = k1 ? `; blue: the first K−1 = ${k1}` : "";
    this.note.textContent = `${app.on()} of ${total} modes are on${blue}. ` +
      "Each gains half a nat for every factor e of β − 1.";
    this.describe(this.note.textContent);
  }
  hover(x, y) {
    const e = 10 ** this.x.invert(x);
    const away = (i) => {
      const along = this.e[i] < e ? 0 : Math.abs(this.x(Math.log10(this.e[i])) - x);
      return Math.abs(this.y(this.kept(i, e)) - y) + along;
    };
    const found = this.shown.map((i) => [away(i), i]).sort((a, b) => a[0] - b[0])[0];
    return found && found[0] < 12 ? modeWords(found[1], this.e[found[1]], "ρ") : null;
  }
}
