// How far the first K−1 modes stand apart, by several estimates: one small picture each, all on one scale.
import "./d3.js";
import { columnOf, nearest, positive } from "./data.js";
import { draw, set, show, write } from "./elements.js";
import { SHAPES, symbol } from "./marks.js";
import { Panel } from "./panel.js";
import { epochScale, epochTicks, powers } from "./scales.js";
import { explained, number } from "./words.js";

const LIMITS = [columnOf("separation_low"), columnOf("separation_high")];
const NOT_MEASURED = "The separation by other estimates was not measured in this analysis.";
const SEPARATION_WORDS = "A factor of β_c − 1 between the first K−1 modes and those behind. Band: 95 % interval; " +
  "dashed line: the default.";
const BETWEEN = 14, BELOW = 44; // pixels between small pictures

export class Sensitivity extends Panel {
  constructor(app, c) {
    super(app, "", { margin: { top: 24, right: 10, bottom: 42, left: 62 } });
    Object.assign(this, { c, wide: true });
    this.element.classList.add("ncib-wide");
    this.follow(app.main);
  }
  /** Two rows where one would be too narrow. */
  size() {
    const narrow = this.box.clientWidth < 560, layout = narrow ? [2, .95, 400] : [4, .2, 210];
    [this.columns, this.ratio, this.most] = layout;
    return super.size();
  }
  column(name, c = this.c) {
    return this.app.column(c, name) || [];
  }
  draw() {
    const { app } = this, { estimates, classes } = app.info(this.c);
    const words = `Sensitivity: how far the first ${classes.length - 1} modes stand apart, by four estimates`;
    this.title(app.title(this.c, words), "click to go there");
    this.plots = [];
    if (!estimates.length) return;
    const names = [...estimates.map((s) => s.column), ...LIMITS];
    const all = d3.range(app.pairs).flatMap((c) => names.flatMap((name) => this.column(name, c)));
    this.extent = d3.extent(all.filter(positive));
    this.limits = LIMITS.map((name) => this.column(name));
    this.plots = estimates.map((estimate, j) => this.plot(estimate, j));
  }
  /** Where small picture j stands. */
  frame(j) {
    const rows = Math.ceil(4 / this.columns), gap = rows > 1 ? BELOW : 0;
    const column = j % this.columns, row = Math.floor(j / this.columns);
    const wide = (this.x1 - this.x0 - BETWEEN * (this.columns - 1)) / this.columns;
    const high = (this.y0 - this.y1 - gap * (rows - 1)) / rows;
    const x0 = this.x0 + column * (wide + BETWEEN), y1 = this.y1 + row * (high + gap);
    return { x0, x1: x0 + wide, y0: y1 + high, y1, first: column === 0, last: row === rows - 1 };
  }
  /** A small picture: axes, the default for comparison, the estimate, and what `step` moves. */
  plot(estimate, j) {
    const { epochs, estimates } = this.app.info(this.c), frame = this.frame(j), { x0, x1, y0, y1 } = frame;
    const x = epochScale(d3.max(epochs), x0 + 6, x1 - 6), [least, most] = this.extent;
    const y = d3.scaleLog([.8 * (least ?? 1), 1.25 * (most ?? 10)], [y0, y1]), values = this.column(estimate.column);
    this.smallAxes(epochs, x, y, frame);
    const line = (v) =>
      d3.line().defined((i) => positive(v[i])).x((i) => x(epochs[i])).y((i) => y(v[i]))(d3.range(epochs.length));
    const curve = (attributes, v) => draw(this.svg, "path", { ...attributes, d: line(v) });
    if (!j && this.limits[0].length) {
      this.band(epochs, x, y);
      for (const limit of this.limits) curve({ class: "ncib-line ncib-edge" }, limit);
    }
    const usual = estimates[0];
    if (j) curve({ class: "ncib-line ncib-other", stroke: usual.colour }, this.column(usual.column));
    curve({ class: "ncib-line", stroke: estimate.colour }, values);
    write(this.svg, estimate.name, { class: "ncib-label", x: x0 + 2, y: y1 - 8 });
    const cursor = this.upright(y1, y0), mark = { class: "ncib-mark", fill: estimate.colour };
    const dot = draw(this.svg, "path", { d: symbol(SHAPES[j % 4], 64), ...mark });
    return { ...estimate, values, x, y, ...frame, cursor, dot };
  }
  smallAxes(epochs, x, y, { x0, x1, y0, y1, first, last }) {
    const some = powers(y, 1, 3), steps = some.length > 5 ? powers(y, 1) : some;
    const g = draw(this.svg, "g", { class: "ncib-axes" });
    const below = d3.axisBottom(x).tickValues(epochTicks(epochs, x)).tickFormat((v) => v).tickSizeOuter(0);
    const label = (v) => first ? "×" + d3.format("~g")(v) : "";
    draw(g, "g", { transform: `translate(0,${y0})` }).call(below);
    const left = d3.axisLeft(y).tickValues(steps).tickFormat(label).tickSizeOuter(0);
    const axis = draw(g, "g", { transform: `translate(${x0},0)` }).call(left);
    set(axis.selectAll(".tick line").clone(), { x2: x1 - x0, class: "ncib-grid" });
    const middle = { "text-anchor": "middle" };
    if (last) write(g, "epoch", { x: x0 + (x1 - x0) / 2, y: y0 + 34, ...middle });
    if (first) write(g, "separation", { transform: `translate(12,${(y0 + y1) / 2}) rotate(-90)`, ...middle });
  }
  /** The 95 % interval between each two checkpoints where it is known at both. */
  band(epochs, x, y) {
    const [low, high] = this.limits, known = (i) => positive(low[i]) && positive(high[i]);
    for (const i of d3.range(epochs.length - 1).filter((i) => known(i) && known(i + 1))) {
      const point = (k, v) => `${x(epochs[k])},${y(v[k])}`;
      const d = `M${point(i, low)}L${point(i + 1, low)}L${point(i + 1, high)}L${point(i, high)}Z`;
      draw(this.svg, "path", { class: "ncib-band", d });
    }
  }
  step() {
    const i = this.app.index(this.c), e = this.app.info(this.c).epochs[i];
    for (const { x, y, values, cursor, dot } of this.plots) {
      set(cursor, { x1: x(e), x2: x(e) });
      show(dot, positive(values[i]));
      if (positive(values[i])) dot.attr("transform", `translate(${x(e)},${y(values[i])})`);
    }
    const told = this.plots.map((p) => this.tell(p, i)).join(", "), images = this.app.given ? "given" : "test";
    const words = `At epoch ${e}, ${images} images, twin encoder: ${told}. ${SEPARATION_WORDS}`;
    this.note.replaceChildren(...explained(this.plots.length ? words : NOT_MEASURED));
    this.describe(this.note.textContent);
  }
  tell(p, i) {
    if (!positive(p.values[i])) return `${p.name} none`;
    const [low, high] = this.limits.map((v) => v[i]), known = p === this.plots[0] && positive(low) && positive(high);
    return `${p.name} ×${number(p.values[i])}${known ? ` (${number(low)} to ${number(high)})` : ""}`;
  }
  /** The picture under the pointer, and its nearest checkpoint. */
  find(x, y) {
    const p = this.plots.find((q) => x >= q.x0 && x <= q.x1 && y >= q.y1 && y <= q.y0);
    return p ? [p, nearest(this.app.info(this.c).epochs.map(p.x), x)] : null;
  }
  hover(x, y) {
    const found = this.find(x, y);
    if (!found) return null;
    const [p, i] = found;
    return `epoch ${this.app.info(this.c).epochs[i]}: ${this.tell(p, i)}; ${p.label}`;
  }
  click(x, y) {
    const found = this.find(x, y);
    if (found) this.app.set("epoch", this.app.info(this.c).epochs[found[1]]);
  }
}
