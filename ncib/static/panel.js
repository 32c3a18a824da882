// A figure of an explorer: title, picture, note; its axes, its names, and how it is steered.
import "./d3.js";
import { draw, h, stroke, write } from "./elements.js";
import { placeLabels } from "./placing.js";

/** What a key does to a position: by how many steps it moves, of `last` + 1 positions. */
const stepOf = (key, last) =>
  ({
    ArrowRight: 1,
    ArrowUp: 1,
    ArrowLeft: -1,
    ArrowDown: -1,
    PageUp: Math.ceil(last / 10),
    PageDown: -Math.ceil(last / 10),
    Home: -Infinity,
    End: Infinity,
  })[key];

/** How many ticks there is room for. */
const room = (length, each) => Math.max(2, Math.floor(length / each));

/**
 * An SVG of its own size in pixels, and perhaps a canvas under it. A kind of panel has `draw` (axes and marks), `step`
 * (what changes with the slider), and perhaps `hover` and `click`.
 */
export class Panel {
  constructor(app, title, options = {}) {
    const { ratio = .62, most = 340, margin = { top: 8, right: 12, bottom: 42, left: 62 }, canvas = false } = options;
    Object.assign(this, { app, ratio, most, margin });
    this.caption = h("figcaption", {}, title);
    this.box = h("div", { class: "ncib-box" });
    if (canvas) this.box.append(this.canvas = h("canvas", { "aria-hidden": "true" }));
    this.svg = draw(d3.select(this.box), "svg", { role: "img" });
    this.note = h("p", { class: "ncib-note" });
    this.element = h("figure", { class: "ncib-panel" }, this.caption, this.box, this.note);
    this.box.addEventListener("pointermove", (e) => app.tip(this.hover?.(...this.local(e)), e));
    this.box.addEventListener("pointerleave", () => app.tip());
    this.box.addEventListener("click", (e) => this.click?.(...this.local(e)));
  }
  local(e) {
    const r = this.box.getBoundingClientRect();
    return [e.clientX - r.left, e.clientY - r.top];
  }
  /** Takes the place there is; true when it can be drawn. */
  size(place = this.box.clientWidth) {
    this.w = Math.floor(place);
    this.h = Math.min(this.most, Math.max(190, Math.round(this.w * this.ratio)));
    if (this.w < 60) return false;
    this.svg.attr("viewBox", `0 0 ${this.w} ${this.h}`).selectAll("*").remove();
    this.box.style.aspectRatio = `${this.w} / ${this.h}`; // on paper the whole picture shrinks, canvas and SVG alike
    if (this.canvas) this.stretch(window.devicePixelRatio || 1);
    const { left, right, bottom, top } = this.margin;
    Object.assign(this, { x0: left, x1: this.w - right, y0: this.h - bottom, y1: top });
    return true;
  }
  /** Gives the canvas the pixels of the screen. */
  stretch(ratio) {
    Object.assign(this.canvas, { width: Math.round(this.w * ratio), height: Math.round(this.h * ratio) });
    this.pen = this.canvas.getContext("2d");
    this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  }
  axes(x, y, xlabel, ylabel, options = {}) {
    const { xticks, yticks, y0 = this.y0, y1 = this.y1, bottom = true } = options;
    const g = draw(this.svg, "g", { class: "ncib-axes" }), wide = this.x1 - this.x0;
    const left = d3.axisLeft(y).ticks(room(y0 - y1, 38)).tickSizeOuter(0);
    const below = d3.axisBottom(x).ticks(room(wide, 62)).tickSizeOuter(0);
    if (xticks) below.tickValues(xticks).tickFormat((v) => v);
    if (yticks) left.tickValues(yticks).tickFormat(d3.format("~g"));
    if (bottom) draw(g, "g", { transform: `translate(0,${y0})` }).call(below);
    const axis = draw(g, "g", { transform: `translate(${this.x0},0)` }).call(left);
    axis.selectAll(".tick line").clone().attr("x2", wide).attr("class", "ncib-grid");
    if (bottom) write(g, xlabel, { x: (this.x0 + this.x1) / 2, y: y0 + 34, "text-anchor": "middle" });
    write(g, ylabel, { transform: `translate(12,${(y0 + y1) / 2}) rotate(-90)`, "text-anchor": "middle" });
  }
  /** Axes of a square of so many pixels in the middle of the picture, both from −reach to reach. */
  squareAxes(reach, label) {
    const side = Math.min(this.x1 - this.x0, this.y0 - this.y1), left = (this.x0 + this.x1) / 2 - side / 2;
    Object.assign(this, { side, left });
    this.x = d3.scaleLinear([-reach, reach], [left, left + side]);
    this.y = d3.scaleLinear([-reach, reach], [this.y0, this.y0 - side]);
    const kept = [this.x0, this.x1, this.y1];
    [this.x0, this.x1, this.y1] = [left, left + side, this.y0 - side];
    this.axes(this.x, this.y, label, "");
    [this.x0, this.x1, this.y1] = kept;
  }
  title(text, hint) {
    this.caption.replaceChildren(text, ...(hint ? [h("span", { class: "ncib-hint" }, ` (${hint})`)] : []));
  }
  /** Says what the picture shows, to those who cannot see it. */
  describe(text) {
    this.svg.attr("aria-label", text);
    if (!this.steered) return;
    const { now, last, text: value } = this.steered;
    this.svg.attr("aria-valuemin", 0).attr("aria-valuemax", last()).attr("aria-valuenow", now())
      .attr("aria-valuetext", value());
  }
  /** Arrow keys in the picture; steered: {now(), last(), go(position), text()}. */
  steer(steered) {
    this.steered = steered;
    this.svg.attr("role", "slider").attr("tabindex", 0).on("keydown", (e) => {
      const last = steered.last(), step = stepOf(e.key, last);
      if (!step || e.ctrlKey || e.metaKey || e.altKey) return;
      steered.go(Math.max(0, Math.min(last, steered.now() + step)));
      e.preventDefault();
      e.stopPropagation();
    });
  }
  follow(slider) {
    this.steer({
      now: () => slider.position(),
      last: () => slider.last,
      go: (i) => slider.go(i),
      text: () => slider.out.textContent,
    });
  }
  /** Names of class means, null for none; `settle` places them. */
  name(marks, names) {
    this.named = marks.map((g, i) => {
      if (names[i] === null) return null;
      const line = draw(g, "line", { class: "ncib-leader" }), text = write(g, names[i], { "text-anchor": "middle" });
      return { line, text, size: [text.node().getComputedTextLength() || 7 * text.text().length, 14] };
    });
  }
  /** Places the names; points: pixels, or null where there is none. */
  settle(points, frame) {
    const shown = d3.range(points.length).filter((i) => points[i] && this.named[i]);
    const places = placeLabels(shown.map((i) => points[i]), shown.map((i) => this.named[i].size), frame);
    shown.forEach((i, j) => {
      const { x, y, led } = places[j], [px, py] = points[i], { text, line } = this.named[i];
      text.attr("x", x - px).attr("y", y - py + 4.5);
      line.attr("visibility", led ? null : "hidden").attr("x2", x - px).attr("y2", y - py);
    });
  }
  /** An upright line across the picture, which `step` moves. */
  upright(y1 = this.y1, y0 = this.y0) {
    return stroke(this.svg, "ncib-cursor", { y1, y2: y0 });
  }
}
