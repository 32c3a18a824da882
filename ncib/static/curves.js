// Accuracy and NC1 of both encoders over the epochs.
import "./d3.js";
import { columnOf, nearest } from "./data.js";
import { draw, set, stroke } from "./elements.js";
import { BLUE, RED } from "./marks.js";
import { Panel } from "./panel.js";
import { epochScale, epochTicks, powers } from "./scales.js";
import { number, percent } from "./words.js";

const DASHES = [["Dotted", "2 3"], ["Dash-dotted", "7 3 2 3"]]; // one for each milestone

export class Curves extends Panel {
  constructor(app, c) {
    super(app, "", { ratio: .8, most: 400, margin: { top: 8, right: 14, bottom: 42, left: 62 } });
    this.c = c;
    this.follow(app.main);
  }
  /** A column of both encoders of all pairs: they have one axis. */
  all(name) {
    const columns = d3.range(this.app.pairs).flatMap((c) =>
      ["a", "b"].flatMap((s) => this.app.column(c, columnOf(name, { side: s, part: this.app.get("part") })))
    );
    return columns.filter((v) => v !== null && v !== undefined);
  }
  draw() {
    const { app, c } = this, { epochs, marks } = app.info(c), own = app.get("encoder");
    this.title(app.title(c, "Accuracy and NC1"), "click to go there");
    this.scales(epochs);
    Object.values(marks).forEach((epoch, i) => {
      const x = this.x(epoch), line = stroke(this.svg, "ncib-when", { x1: x, x2: x, y1: this.y1, y2: this.y0 });
      line.style("stroke-dasharray", DASHES[i][1]);
    });
    for (const side of ["a", "b"]) {
      for (const curve of this.curves(side)) this.curve(curve, epochs, side === own);
    }
    this.cursor = this.upright();
    this.dots = this.curves(own).map((curve) => {
      return { ...curve, dot: draw(this.svg, "circle", { r: 4.5, fill: curve.fill }) };
    });
    const when = Object.entries(marks).map(([name, e], i) => ` ${DASHES[i][0]}: ${name} at epoch ${e}.`).join("");
    this.note.textContent = `Solid lines: encoder ${own.toUpperCase()}; dashed: the other one.${when}`;
  }
  /** One axis of epochs; above it that of the accuracy, below that of NC1, with logarithms. */
  scales(epochs) {
    const { app } = this, last = d3.max(d3.range(app.pairs).map((c) => d3.max(app.info(c).epochs)));
    const middle = this.y1 + .52 * (this.y0 - this.y1), above = middle - 12, below = middle + 8;
    this.x = epochScale(last, this.x0 + 8, this.x1 - 8);
    const accuracy = this.all("accuracy").map((v) => 100 * v), [worst, best] = d3.extent(accuracy);
    const pad = Math.max(.5, .06 * (best - worst));
    this.top = d3.scaleLinear([worst - pad, Math.min(100.5, best + pad)], [above, this.y1]);
    const [least, most] = d3.extent(this.all("nc1").filter((v) => v > 0));
    this.low = d3.scaleLog([.8 * least, 1.25 * most], [this.y0, below]);
    const some = powers(this.low, 1, 2, 5), steps = some.length > 6 ? powers(this.low, 1) : some;
    this.axes(this.x, this.top, "", `${app.given ? "held-out" : "test"} acc. (%)`, { y0: above, bottom: false });
    this.axes(this.x, this.low, "epoch", `NC1, ${app.given ? "given" : app.get("part")}`, {
      y1: below,
      xticks: epochTicks(epochs, this.x),
      yticks: steps.length > 1 ? steps : undefined,
    });
  }
  /** The two curves of an encoder: values, their axis, the factor to its unit, colour. */
  curves(side) {
    const column = (name) => this.app.column(this.c, columnOf(name, { side, part: this.app.get("part") }));
    return [
      { values: column("accuracy"), y: this.top, factor: 100, fill: BLUE },
      { values: column("nc1"), y: this.low, factor: 1, fill: RED },
    ];
  }
  curve({ values, y, factor, fill }, epochs, own) {
    const line = d3.line().defined((i) => values[i] !== null && values[i] > 0).x((i) => this.x(epochs[i]))
      .y((i) => y(factor * values[i]));
    const d = line(d3.range(epochs.length));
    draw(this.svg, "path", { class: "ncib-line", stroke: fill, d }).classed("ncib-other", !own);
  }
  step() {
    const i = this.app.index(this.c), e = this.app.info(this.c).epochs[i], x = this.x(e);
    set(this.cursor, { x1: x, x2: x });
    for (const { values, y, factor, dot } of this.dots) {
      set(dot, { cx: x, cy: values[i] > 0 ? y(factor * values[i]) : -99 }); // out of sight
    }
    this.describe(`At epoch ${e}: ${this.tell(i)}`);
  }
  tell(i) {
    const [accuracy, nc1] = this.dots.map(({ values }) => values[i]);
    return `${this.app.accuracy} ${percent(accuracy)}, NC1 ${number(nc1)}`;
  }
  near(x) {
    return nearest(this.app.info(this.c).epochs.map(this.x), x);
  }
  hover(x, y) {
    if (x < this.x0 || y > this.y0) return null;
    const i = this.near(x);
    return `epoch ${this.app.info(this.c).epochs[i]}: ${this.tell(i)} (${this.app.whose})`;
  }
  click(x) {
    this.app.set("epoch", this.app.info(this.c).epochs[this.near(x)]);
  }
}
