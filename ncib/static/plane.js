// The information plane: I(T;Y) against I(X;T), and the corner, enlarged where the plane is empty.
import "./d3.js";
import { draw, set, show, stroke, write } from "./elements.js";
import { BLUE, dot, DOWN, RED, STAR } from "./marks.js";
import { Panel } from "./panel.js";
import { number } from "./words.js";

/** The straight line through the points of a curve, at x; beyond its ends it goes on. */
function between(xs, ys, x) {
  const k = Math.max(1, Math.min(xs.length - 1, xs.findIndex((v) => v >= x)));
  return ys[k - 1] + (x - xs[k - 1]) / (xs[k] - xs[k - 1] || 1) * (ys[k] - ys[k - 1]);
}

export class Plane extends Panel {
  constructor(app) {
    super(app, "Information plane");
  }
  draw() {
    const { app } = this,
      f = app.factor,
      u = app.get("unit"),
      largest = (name) => d3.max(app.arrays[name].values) * f || 1;
    const wide = largest("ixt"), high = largest("iyt") * 1.08;
    this.x = d3.scaleLinear([0, wide * 1.03], [this.x0, this.x1]);
    this.y = d3.scaleLinear([0, high], [this.y0, this.y1]);
    this.axes(this.x, this.y, `I(X;T) (${u})`, `I(T;Y) (${u})`);
    const [zero, end] = [0, Math.min(wide, high)];
    stroke(this.svg, "ncib-when", { x1: this.x(zero), y1: this.y(zero), x2: this.x(end), y2: this.y(end) });
    if (!app.gaussian) {
      const all = this.y(app.info.information * f);
      stroke(this.svg, "ncib-chance", { x1: this.x0, x2: this.x1, y1: all, y2: all });
    }
    this.own = this.svg.append("g");
    this.tangent = stroke(this.svg, "ncib-cursor");
    this.dot = draw(this.svg, "circle", { r: 6, fill: RED });
    this.turn();
  }
  /** To another checkpoint. */
  turn() {
    this.kept = this.app.curve("ixt");
    this.told = this.app.curve("iyt");
    this.own.selectAll("*").remove();
    const line = d3.line().x((i) => this.x(this.kept[i])).y((i) => this.y(this.told[i]));
    draw(this.own, "path", { class: "ncib-line", stroke: BLUE, d: line(d3.range(this.kept.length)) });
    this.entered = [];
    if (!this.app.gaussian) return;
    this.entrances();
    this.corner();
  }
  /** Circles where modes enter: filled for the first K−1. */
  entrances() {
    const { app } = this, f = app.factor, { k1 } = app.info, wide = this.x.domain()[1] / 1.03;
    const [kept, told, e] = ["enter_ixt", "enter_iyt", "excess"].map((name) => app.row(name));
    const seen = d3.range(e.length).filter((i) => Number.isFinite(e[i]) && kept[i] * f <= wide);
    this.entered = seen.map((i) => [this.x(kept[i] * f), this.y(told[i] * f), i]);
    for (const further of [false, true]) {
      const d = this.entered.filter(([, , i]) => further === i >= k1).map(([x, y]) => dot(x, y)).join("");
      draw(this.own, "path", { class: further ? "ncib-mode ncib-further" : "ncib-mode", d: d || null });
    }
  }
  /** The best code of the corner's rate (star) and the class means' code (triangle). */
  corner() {
    const { corner } = this.app, at = { x: this.x1 - 4, y: this.y0 - 10, "text-anchor": "end" };
    if (!corner.rate) return write(this.own, "no corner (see below)", { class: "ncib-label", ...at });
    const { left, top, x, y } = this.inset(corner);
    this.mark(corner, this.x, this.y);
    this.mark(corner, x, y);
    const middle = (y(corner.best) + y(corner.told)) / 2;
    [corner.short, `(${corner.share})`].forEach((text, j) => {
      const place = { x: x(corner.rate) + 12, y: middle + 10 + 15 * j };
      write(this.own, text, { class: "ncib-label ncib-short", ...place });
    });
    write(this.own, "corner, enlarged", { class: "ncib-small", x: left + 5, y: top + 13 });
  }
  mark({ rate, best, told }, x, y) {
    stroke(this.own, "ncib-cursor", { x1: x(rate), x2: x(rate), y1: y(told), y2: y(best) });
    draw(this.own, "path", { class: "ncib-down", d: DOWN, transform: `translate(${x(rate)},${y(told)})` });
    draw(this.own, "path", { class: "ncib-star", d: STAR, transform: `translate(${x(rate)},${y(best)})` });
  }
  /** A frame in the lower right, with scales of its own, and the curve in it. */
  inset({ rate, best, told }) {
    const width = .5 * (this.x1 - this.x0),
      height = .44 * (this.y0 - this.y1),
      reach = Math.max(best - told, .01 * best);
    const left = this.x1 - width - 2, top = this.y0 - height - 6;
    const rates = [rate - .5 * reach, rate + 2.5 * reach], tells = [best - 1.5 * reach, best + .9 * reach];
    const x = d3.scaleLinear(rates, [left, left + width]), y = d3.scaleLinear(tells, [top + height, top]);
    stroke(this.own, "ncib-when", { x1: this.x(rate), y1: this.y(best), x2: left, y2: top });
    draw(this.own, "rect", { class: "ncib-inset", x: left, y: top, width, height });
    const points = d3.range(61).map((i) => rates[0] + i / 60 * (rates[1] - rates[0]))
      .map((r) => [r, between(this.kept, this.told, r)]);
    const line = d3.line().defined(([, v]) => v >= tells[0] && v <= tells[1]).x(([r]) => x(r)).y(([, v]) => y(v));
    draw(this.own, "path", { class: "ncib-line", stroke: BLUE, d: line(points) });
    return { left, top, x, y };
  }
  step() {
    const { app } = this, i = app.at, [kept, told] = [this.kept[i], this.told[i]];
    const slope = 1 / (1 + 10 ** app.grid_values[i]), run = .12 * this.x.domain()[1];
    set(this.dot, { cx: this.x(kept), cy: this.y(told) });
    const [x1, x2] = [kept - run, kept + run].map(this.x),
      [y1, y2] = [told - run * slope, told + run * slope].map(this.y);
    set(show(this.tangent, kept > 0), { x1, y1, x2, y2 });
    const filled = app.info.k1 ? " (filled: the first K−1)" : "";
    const circles = app.gaussian
      ? `Circles: a mode enters${filled}. ${app.corner.words}`
      : "Dashed: all that X tells about Y.";
    this.note.textContent = `Line: slope 1/β. Dotted: all that is kept is about Y. ${circles}`;
    const place = `I(X;T) ${number(kept)}, I(T;Y) ${number(told)} ${app.get("unit")}`;
    this.describe(`Information plane: ${place}.${app.gaussian ? ` ${app.corner.words}` : ""}`);
  }
  hover(x, y) {
    const found = this.entered.find(([a, b]) => Math.hypot(a - x, b - y) < 7);
    if (!found) return null;
    const kept = number(this.x.invert(found[0])), told = number(this.y.invert(found[1]));
    return `mode ${found[2] + 1} enters at I(X;T) = ${kept}, I(T;Y) = ${told} ${this.app.get("unit")}`;
  }
}
