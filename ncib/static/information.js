// What the code keeps, I(X;T), and what it tells, I(T;Y), over β.
import "./d3.js";
import { draw, write } from "./elements.js";
import { BLUE, RED, symbol } from "./marks.js";
import { BETA, OverBeta } from "./over_beta.js";
import { number, percent } from "./words.js";

const CURVES = [
  { array: "ixt", name: "I(X;T)", colour: BLUE, letter: "●", shape: d3.symbolCircle },
  { array: "iyt", name: "I(T;Y)", colour: RED, letter: "■", shape: d3.symbolSquare },
];

export class Information extends OverBeta {
  constructor(app) {
    super(app, "What the code keeps and what it tells");
  }
  draw() {
    const { app } = this, most = d3.max(app.arrays.ixt.values) * app.factor;
    this.scale();
    this.y = d3.scaleLinear([0, Math.max(1e-6, most) * 1.05], [this.y0, this.y1]);
    this.axes(this.x, this.y, BETA, `information (${app.get("unit")})`);
    this.own = this.svg.append("g");
    CURVES.forEach(({ name, letter, colour }, j) => {
      const place = { x: this.x0 + 10, y: this.y1 + 14 + 17 * j };
      write(this.svg, `${letter} ${name}`, { class: "ncib-label", ...place, style: `fill:${colour}` });
    });
    this.line();
    this.dots = CURVES.map(({ shape, colour }) => draw(this.svg, "path", { d: symbol(shape, 70), fill: colour }));
    this.turn();
  }
  /** To another checkpoint. */
  turn() {
    const grid = this.app.grid_values, line = (v) => d3.line().x((i) => this.x(grid[i])).y((i) => this.y(v[i]));
    this.values = CURVES.map(({ array }) => this.app.curve(array));
    this.own.selectAll("*").remove();
    CURVES.forEach(({ colour }, j) => {
      const d = line(this.values[j])(d3.range(grid.length));
      draw(this.own, "path", { class: "ncib-line", stroke: colour, d });
    });
    this.corner();
  }
  step() {
    const i = this.app.at, x = this.x(this.app.grid_values[i]), [kept, told] = this.values.map((v) => v[i]);
    this.move();
    this.dots.forEach((dot, j) => dot.attr("transform", `translate(${x},${this.y(this.values[j][i])})`));
    this.note.textContent = kept > 0
      ? `${percent(told / kept)} of what the code keeps is about Y.`
      : "Nothing is kept yet.";
    this.describe(this.tell(i, " "));
  }
  tell(i, between) {
    const told = CURVES.map(({ name }, j) => `${name}${between}${number(this.values[j][i])} ${this.app.get("unit")}`);
    return told.join(", ");
  }
  hover(x) {
    const i = this.index(x);
    return x < this.x0 ? null : `β = 1 + ${number(10 ** this.app.grid_values[i])}: ${this.tell(i, " = ")}`;
  }
}
