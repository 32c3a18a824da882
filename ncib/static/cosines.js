// Cosines between class means, beside those of a simplex.
import "./d3.js";
import { at, keyOf } from "./data.js";
import { draw, write } from "./elements.js";
import { Heat } from "./heat.js";
import { PUOR } from "./marks.js";
import { called, number } from "./words.js";

const GAP = 14; // pixels between the matrices

export class Cosines extends Heat {
  constructor(app, c) {
    const long = Math.max(...app.groups(c).map((g) => g.name.length)) > 2;
    const margin = { top: 22, right: 10, bottom: 58, left: long ? 54 : 34 };
    super(app, "", { ratio: .62, most: 400, canvas: true, margin });
    Object.assign(this, { c, long });
  }
  draw() {
    this.groups = this.app.groups(this.c);
    this.grouped = this.app.grouped(this.c);
    const names = this.groups.map((g) => g.name), k = names.length, below = this.long && k <= 20 ? 46 : 14;
    const what = this.grouped ? "Mean cosines between the classes of superclasses" : "Cosines between class means";
    this.caption.textContent = this.app.title(this.c, `${what}, beside the ideal`);
    this.side = Math.min((this.x1 - this.x0 - GAP) / 2, this.y0 - this.y1 - below);
    this.lefts = [this.x0, this.x0 + this.side + GAP];
    const g = draw(this.svg, "g", { class: "ncib-axes" }), { side, y1: y } = this;
    [this.grouped ? "superclasses" : "class means", "ideal simplex ETF"].forEach((text, j) => {
      const x = this.lefts[j];
      write(g, text, { x: x + side / 2, y: y - 7, "text-anchor": "middle" });
      draw(g, "rect", { x, y, width: side, height: side, class: "ncib-outline" });
      if (k <= 20 && side / k > 8) this.labels(g, names, j);
    });
    this.k = k;
    this.best = -1 / (this.app.info(this.c).classes.length - 1);
    const own = (g) => this.groups[g].members.length < 2; // a class with itself
    const one = (i) => i % (k + 1) === 0 && own(i / (k + 1));
    this.ideal = Float32Array.from({ length: k * k }, (_, i) => one(i) ? 1 : this.best);
    const all = this.app.array(this.c, keyOf("cosines", this.app.words())).values;
    const sizes = Array.from(all, (v, i) => one(i % (k * k)) ? 0 : Math.abs(v));
    this.reach = this.grouped ? Math.max(.1, d3.max(sizes)) : 1; // means over many pairs are small
    this.scale(g, this.y1 + this.side + below + 12);
    this.matrix(this.ideal, 1);
  }
  /** Names below a matrix; beside the first one, too. */
  labels(g, names, j) {
    const cell = this.side / names.length, bottom = this.y1 + this.side + 11;
    names.forEach((name, i) => {
      const x = this.lefts[j] + (i + .5) * cell;
      const turned = { transform: `translate(${x + 3},${bottom - 4}) rotate(-60)`, "text-anchor": "end" };
      const upright = { transform: `translate(${x},${bottom})`, "text-anchor": "middle" };
      write(g, name.slice(0, 8), { class: "ncib-small", ...(this.long ? turned : upright) });
      if (j) return;
      const beside = { x: this.x0 - 4, y: this.y1 + (i + .5) * cell + 3.5, "text-anchor": "end" };
      write(g, name.slice(0, 7), { class: "ncib-small", ...beside });
    });
  }
  /** The colours and what they mean. */
  scale(g, y) {
    const width = Math.min(220, this.x1 - this.x0);
    const x = d3.scaleLinear([-this.reach, this.reach], [this.x0, this.x0 + width]);
    for (const i of d3.range(64)) {
      const fill = d3.interpolatePuOr(1 - i / 63);
      draw(g, "rect", { x: this.x0 + i * width / 64, y, width: width / 64 + .6, height: 9, fill });
    }
    draw(g, "g", { transform: `translate(0,${y + 9})` }).call(d3.axisBottom(x).ticks(5).tickSizeOuter(0));
    write(g, "cosine", { x: this.x0 + width + 10, y: y + 9 });
  }
  matrix(values, j) {
    const box = { x: this.lefts[j], y: this.y1, w: this.side, h: this.side };
    this.cells(values, this.k, this.k, box, PUOR, [-this.reach, this.reach]);
  }
  now() {
    return at(this.app.array(this.c, keyOf("cosines", this.app.words())), this.app.index(this.c));
  }
  step() {
    const cosines = this.now();
    this.matrix(cosines, 0);
    this.note.textContent = this.grouped ? this.within(cosines) : this.distance(cosines);
    const what = this.grouped ? "mean cosines between classes of superclasses" : "cosines between class means";
    this.describe(`Matrix of ${what} beside that of an ideal simplex. ${this.note.textContent}`);
  }
  distance(cosines) {
    const k = this.k;
    let far = 0;
    for (let i = 0; i < k * k; i++) if (i % (k + 1)) far += Math.abs(cosines[i] - this.best) / (k * (k - 1));
    return `Mean distance of the cosines from −1/(K−1) = ${number(this.best)}: ${number(far)}.`;
  }
  /** Means over all pairs of classes of one superclass, and of two. */
  within(cosines) {
    const n = this.groups.map((g) => g.members.length), sums = [0, 0], pairs = [0, 0];
    cosines.forEach((v, i) => {
      const a = Math.floor(i / this.k), b = i % this.k, count = n[a] * (n[b] - (a === b));
      sums[+(a === b)] += count * v;
      pairs[+(a === b)] += count;
    });
    const [between, own] = sums.map((v, i) => pairs[i] ? number(v / pairs[i]) : "none");
    return `Mean cosine within a superclass ${own}, between superclasses ${between}; ` +
      `ideal −1/(K−1) = ${number(this.best)}.`;
  }
  hover(x, y) {
    const ideal = x >= this.lefts[1], left = this.lefts[+ideal], k = this.k;
    const i = Math.floor((y - this.y1) / this.side * k), j = Math.floor((x - left) / this.side * k);
    if (i < 0 || j < 0 || i >= k || j >= k) return null;
    const best = number(this.ideal[i * k + j]), [a, b] = [i, j].map((g) => called(this.groups[g]));
    const both = this.grouped ? `superclasses ${a} and ${b}: mean cosine ` : `classes ${a} and ${b}: cosine `;
    return both + (ideal ? `${best} in a simplex` : `${number(this.now()[i * k + j])}, ideal ${best}`);
  }
}
