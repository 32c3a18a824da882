// Classes and samples on the plane of their simplex, or in a tetrahedron that can be turned.
import "./d3.js";
import { at, keyOf, quantile } from "./data.js";
import { draw, h } from "./elements.js";
import { meanMark, sprite } from "./marks.js";
import { Panel } from "./panel.js";
import { number } from "./words.js";

const MEAN_LENGTH = "r.m.s. length of class means";
const SCATTER_WORDS = "samples (dots) and class means; dashed: a perfect simplex. " +
  "Classes that overlap here may lie apart in other directions.";
const UNSURE = "The class means hardly span a plane here: the view is completed from the next checkpoint.";
const PLACES = { 1: " on a line (height means nothing)", 2: " on the simplex", 3: " in a tetrahedron" };
const UPRIGHT = 1.57; // radians, a quarter of a turn

/** The corners of a regular simplex of k classes in so many dimensions, flat. */
function idealCorners(k, dims) {
  if (dims === 1) return [-1, 1];
  if (dims === 3) return [1, 1, 1, 1, -1, -1, -1, 1, -1, -1, -1, 1].map((v) => v * (1 / Math.sqrt(3)));
  const angle = (j) => Math.PI / 2 - 2 * Math.PI * j / k;
  return d3.range(k).flatMap((j) => [Math.cos(angle(j)), Math.sin(angle(j))]);
}

/** Its edges: of a polygon the sides, else all pairs. */
function sides(k, dims) {
  if (dims === 2) return d3.range(k).map((j) => [j, (j + 1) % k]);
  return d3.range(k).flatMap((j) => d3.range(j).map((l) => [j, l]));
}

/** A place along a line that has no meaning, so that dots do not hide each other: from −0.8 to 0.8, golden ratio. */
const spread = (j) => 1.6 * ((j * .618034) % 1 - .5);

export class Projection extends Panel {
  constructor(app, c) {
    super(app, "", { ratio: .8, most: 400, canvas: true });
    Object.assign(this, { c, turn: -.5, tilt: .35 });
    this.rotation = h(
      "div",
      { class: "ncib-rotation", hidden: true },
      this.angle("turn", 3.14),
      this.angle("tilt", UPRIGHT),
    );
    this.element.insertBefore(this.rotation, this.note);
    this.box.addEventListener("pointerdown", (e) => {
      if (this.dims !== 3) return;
      this.grip = [e.clientX, e.clientY, this.turn, this.tilt];
      this.box.setPointerCapture(e.pointerId);
    });
    this.box.addEventListener("pointerup", () => this.grip = null);
    this.box.addEventListener("pointermove", (e) => this.drag(e));
  }
  /** A range for one of the two angles. */
  angle(name, most) {
    const oninput = (e) => {
      this[name] = +e.target.value;
      this.turned();
    };
    return h(
      "label",
      {},
      name,
      h("input", { type: "range", min: -most, max: most, step: .02, value: this[name], oninput }),
    );
  }
  drag(e) {
    if (!this.grip) return;
    const [x, y, turn, tilt] = this.grip;
    this.turn = turn + (e.clientX - x) / 120;
    this.tilt = Math.max(-UPRIGHT, Math.min(UPRIGHT, tilt + (e.clientY - y) / 120));
    this.turned();
  }
  turned() {
    this.outline();
    this.step();
  }
  /** An array of what is shown: of all classes, or of those that were chosen. */
  own(name) {
    return this.app.array(this.c, keyOf(name, this.app.words(this.view)));
  }
  draw() {
    this.take();
    const names = this.app.info(this.c).classes, last = this.unit.length - 1, scale = this.app.get("scale");
    const who = this.view ? "Classes " + this.shown.map((c) => names[c]).join(", ") : "Classes";
    this.title(this.app.title(this.c, who + PLACES[this.dims]), this.dims === 3 && "drag to turn");
    this.reach = d3.range(last + 1).reduce((most, i) => Math.max(most, this.far(i)), 1.4);
    this.squareAxes(this.reach, MEAN_LENGTH + " = 1" + (scale === "own" ? "" : " at the last checkpoint"));
    this.frame = draw(this.svg, "path", { class: "ncib-ideal" });
    const g = this.svg.append("g");
    this.marks = this.shown.map((c) => {
      const mark = draw(g, "g", { class: "ncib-mean" });
      meanMark(mark, c, this.shown.length, 90);
      return mark;
    });
    this.name(this.marks, this.shown.map((c) => this.shown.length <= 26 ? names[c] : null));
    this.outline();
  }
  /** What is shown: all classes, or the chosen ones. */
  take() {
    const { app, c } = this, some = app.someClasses && app.get("view") === "chosen";
    this.view = some ? "chosen/" : "";
    this.shown = app.classes(c, some ? "chosen" : "all");
    this.labels = this.own("labels").values;
    this.unit = this.own("unit").values;
    this.dims = this.own("means").shape[2];
    this.rotation.hidden = this.dims !== 3;
    this.box.style.touchAction = this.dims === 3 ? "none" : "";
  }
  /** How far nearly all samples of a checkpoint lie from the middle. */
  far(i) {
    const p = at(this.own("points"), i), { dims } = this;
    const radii = Float64Array.from(this.labels, (_, j) => {
      let sum = 0;
      for (let d = 0; d < dims; d++) sum += p[j * dims + d] ** 2;
      return Math.sqrt(sum) * this.zoom(i);
    });
    return this.app.get("scale") === "own" ? Math.min(2.6, quantile(radii, .95)) : quantile(radii, .98);
  }
  /** The unit of a checkpoint in that of the picture. */
  zoom(i) {
    return this.app.get("scale") === "own" ? 1 : this.unit[i] / this.unit[this.unit.length - 1];
  }
  /** Two coordinates of row j of flat values. */
  place(v, j) {
    if (this.dims === 2) return [v[2 * j], v[2 * j + 1]];
    if (this.dims === 1) return [v[j], 0];
    const [x, y, z] = [v[3 * j], v[3 * j + 1], v[3 * j + 2]];
    const ca = Math.cos(this.turn), sa = Math.sin(this.turn), cb = Math.cos(this.tilt), sb = Math.sin(this.tilt);
    return [ca * x + sa * z, cb * y - sb * (ca * z - sa * x)];
  }
  /** Where a simplex ETF would be. */
  outline() {
    const k = this.shown.length, ideal = idealCorners(k, this.dims);
    const point = (j) => {
      const [x, y] = this.place(ideal, j);
      return `${this.x(x)},${this.y(y)}`;
    };
    this.frame.attr("d", sides(k, this.dims).map(([a, b]) => `M${point(a)}L${point(b)}`).join(""));
  }
  step() {
    const i = this.app.index(this.c), means = at(this.own("means"), i), zoom = this.zoom(i);
    const outside = this.scatter(at(this.own("points"), i), zoom);
    this.means = this.shown.map((_, j) => {
      const [a, b] = this.place(means, j);
      return [this.x(a * zoom), this.y(b * zoom)];
    });
    this.marks.forEach((m, j) => m.attr("transform", `translate(${this.means[j]})`));
    this.settle(this.means, [this.left + 2, 0, this.w, this.y0 - 2]);
    const unsure = this.own("certainty").values[i] < .05;
    const words = [
      `${this.labels.length} ${SCATTER_WORDS}`,
      outside && `${outside} samples lie outside.`,
      unsure && UNSURE,
    ];
    this.note.textContent = words.filter(Boolean).join(" ");
    this.tell(i, means, zoom);
  }
  /** Draws the samples; how many lie outside the picture. */
  scatter(points, zoom) {
    const { pen } = this, n = this.labels.length, ratio = window.devicePixelRatio || 1;
    pen.clearRect(0, 0, this.w, this.h);
    this.at = new Float32Array(2 * n);
    let outside = 0;
    for (let j = 0; j < n; j++) {
      const [a, b] = this.place(points, j), x = this.x(a * zoom);
      const y = this.y(this.dims === 1 ? this.reach * spread(j) : b * zoom);
      this.at[2 * j] = x;
      this.at[2 * j + 1] = y;
      const far = Math.abs(x - this.left - this.side / 2) > this.side / 2;
      if (far || y < this.y0 - this.side || y > this.y0) outside++;
      else pen.drawImage(sprite(this.labels[j], ratio), x - 4, y - 4, 8, 8);
    }
    return outside;
  }
  tell(i, means, zoom) {
    const { epochs, classes } = this.app.info(this.c);
    const places = this.shown.slice(0, 20).map((c, j) => {
      const [x, y] = this.place(means, j);
      return `class ${classes[c]} at ${number(x * zoom, 2)}, ${number(y * zoom, 2)}`;
    });
    this.describe(`Projection at epoch ${epochs[i]}: ` + places.join("; "));
  }
  hover(x, y) {
    if (this.grip) return null;
    const names = this.app.info(this.c).classes, i = this.app.index(this.c), zoom = this.zoom(i);
    const tell = (values, j) => {
      const own = values.subarray(j * this.dims, (j + 1) * this.dims);
      return Array.from(own, (v) => number(v * zoom, 2)).join(", ") + ` × ${MEAN_LENGTH}`;
    };
    const away = this.means.map(([a, b]) => Math.hypot(a - x, b - y)), mean = away.indexOf(Math.min(...away));
    if (away[mean] < 10) return `class ${names[this.shown[mean]]}, mean: ${tell(at(this.own("means"), i), mean)}`;
    let best = 100, found = -1; // square pixels
    for (let j = 0; j < this.labels.length; j++) {
      const d = (this.at[2 * j] - x) ** 2 + (this.at[2 * j + 1] - y) ** 2;
      if (d < best) [best, found] = [d, j];
    }
    return found < 0 ? null : `class ${names[this.labels[found]]}, sample: ${tell(at(this.own("points"), i), found)}`;
  }
}
