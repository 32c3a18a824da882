// Panels whose abscissa is the slider of β.
import "./d3.js";
import { nearest } from "./data.js";
import { stroke, write } from "./elements.js";
import { Panel } from "./panel.js";

export const BETA = "log₁₀(β − 1)";

/** A kind of it calls `scale` before its axes, `line` after them, and `move` at every step. */
export class OverBeta extends Panel {
  constructor(app, ...rest) {
    super(app, ...rest);
    this.follow(app.main);
  }
  scale() {
    const g = this.app.grid_values;
    this.x = d3.scaleLinear([g[0], g[g.length - 1]], [this.x0, this.x1]);
  }
  /** Where the corner is on the axis, in `own`: what belongs to one checkpoint. */
  corner() {
    const c = this.app.gaussian && this.app.corner;
    if (!c || !c.rate) return;
    const x = this.x(c.at), left = x > (this.x0 + this.x1) / 2, anchor = left ? "end" : "start";
    stroke(this.own, "ncib-corner-line", { x1: x, x2: x, y1: this.y1, y2: this.y0 });
    write(this.own, "★ corner", { class: "ncib-label", x: x + (left ? -5 : 5), y: this.y0 - 8, "text-anchor": anchor });
  }
  line() {
    this.cursor = this.upright();
  }
  move() {
    const x = this.x(this.app.grid_values[this.app.at]);
    this.cursor.attr("x1", x).attr("x2", x);
  }
  /** Position on the grid below a pixel. */
  index(x) {
    return nearest(this.app.grid_values, this.x.invert(x));
  }
  click(x) {
    this.app.set("log_excess", this.app.grid_values[this.index(x)]);
  }
}
