// The discrete bottleneck: clusters that split, what belongs to them, what they say.
import "./d3.js";
import { at } from "./data.js";
import { write } from "./elements.js";
import { Heat } from "./heat.js";
import { BLUES, colour } from "./marks.js";
import { BETA, OverBeta } from "./over_beta.js";
import { number } from "./words.js";

const SIZE = { ratio: .8, most: 400, canvas: true, margin: { top: 8, right: 12, bottom: 42, left: 62 } };
const BY_SPLITS = "x, ordered by the splits";
const USED = 1e-6; // the least probability of a cluster that is there

/** n + 1 cellEdges of cells from low to high, whole pixels. */
const cellEdges = (low, high, n) => d3.range(n + 1).map((i) => Math.round(low + (high - low) * i / n));

/** Names of rows, if there are few enough. */
function nameRows(panel, names, letters) {
  if (names.length > 26) return;
  names.forEach((name, j) => {
    const place = { x: panel.x0 - 5, y: panel.y(j + .5) + 4, "text-anchor": "end" };
    write(panel.svg, name.slice(0, letters), { class: "ncib-small", ...place });
  });
}

/** Names of the x, as the splits put them into order. */
const ordered = (app) => Array.from(app.arrays.order.values, (i) => app.info.names_x[i]);

/** The most probable cluster of every x at every β. */
export class Tree extends OverBeta {
  constructor(app) {
    super(app, "", SIZE);
    this.title("Clusters split along β", "click to go there");
  }
  draw() {
    const [g, k] = this.app.arrays.hard.shape;
    this.scale();
    this.rows = k;
    this.names = ordered(this.app);
    this.y = d3.scaleLinear([0, k], [this.y1, this.y0]);
    this.cells(g, k);
    this.axes(this.x, this.y, BETA, BY_SPLITS, { yticks: [] });
    nameRows(this, this.names, 5);
    this.line();
  }
  /** One cell for each β and x; what repeats a colour is paler. */
  cells(g, k) {
    const { pen } = this, { values } = this.app.arrays.hard, between = k > 60 ? 0 : 1;
    const xs = cellEdges(this.x0, this.x1, g), ys = cellEdges(this.y1, this.y0, k);
    pen.clearRect(0, 0, this.w, this.h);
    for (let i = 0; i < g; i++) {
      for (let j = 0; j < k; j++) {
        const c = values[i * k + j];
        pen.fillStyle = colour(c);
        pen.globalAlpha = 1 - .3 * (Math.floor(c / 7) % 3);
        pen.fillRect(xs[i], ys[j], xs[i + 1] - xs[i], ys[j + 1] - ys[j] - between);
      }
    }
    pen.globalAlpha = 1;
  }
  step() {
    this.move();
    this.note.textContent = "Colour: the most probable cluster of each x.";
    this.describe(`${this.app.clusters()} clusters at this β`);
  }
  hover(x, y) {
    const j = Math.floor(this.y.invert(y));
    if (j < 0 || j >= this.rows || x < this.x0) return null;
    const i = this.index(x), cluster = this.app.arrays.hard.values[i * this.rows + j] + 1;
    return `x ${this.names[j]} at β = 1 + ${number(10 ** this.app.grid_values[i])}: cluster ${cluster}`;
  }
}

/** Rows by clusters that are in use. A kind has `names`, `values`, `tell` and `ylabel`. */
class Matrix extends Heat {
  constructor(app, title) {
    super(app, title, SIZE);
  }
  draw() {
    const names = this.names();
    this.t = this.app.arrays.weight.shape[1];
    this.x = d3.scaleBand(d3.range(this.t), [this.x0, this.x1]);
    this.y = d3.scaleLinear([0, names.length], [this.y1, this.y0]);
    this.axes(this.x, this.y, "cluster t", this.ylabel, { yticks: [] });
    const some = d3.range(0, this.t, Math.ceil(this.t / 14));
    const axis = d3.axisBottom(this.x).tickValues(some).tickFormat((v) => v + 1).tickSizeOuter(0);
    this.svg.select(".ncib-axes g").call(axis);
    nameRows(this, names, 7);
  }
  /** An array at this β. */
  now(name) {
    return at(this.app.arrays[name], this.app.at);
  }
  step() {
    this.shown = this.values();
    const box = { x: this.x0, y: this.y1, w: this.x1 - this.x0, h: this.y0 - this.y1 };
    this.cells(this.shown, this.names().length, this.t, box, BLUES, [0, 1]);
    this.note.textContent = "White: 0, full blue: 1; empty columns: clusters that are not there yet.";
    this.describe(this.caption.textContent);
  }
  hover(x, y) {
    const t = Math.floor((x - this.x0) / this.x.step()), j = Math.floor(this.y.invert(y)), names = this.names();
    if (t < 0 || t >= this.t || j < 0 || j >= names.length) return null;
    const value = this.shown[j * this.t + t];
    return Number.isNaN(value) ? null : this.tell(names[j], t + 1, number(value));
  }
}

/** p(t|x) */
export class Members extends Matrix {
  ylabel = BY_SPLITS;
  constructor(app) {
    super(app, "Which x belong to a cluster: p(t|x)");
  }
  names() {
    return ordered(this.app);
  }
  values() {
    const weight = this.now("weight");
    return Float32Array.from(this.now("encoder"), (v, j) => weight[j % this.t] > USED ? v : NaN);
  }
  tell(name, t, v) {
    return `p(t = ${t} | x = ${name}) = ${v}`;
  }
}

/** p(y|t) */
export class Meaning extends Matrix {
  ylabel = "y";
  constructor(app) {
    super(app, "What a cluster says about y: p(y|t)");
  }
  names() {
    return this.app.info.names_y;
  }
  values() {
    const n = this.names().length, weight = this.now("weight"), decoder = this.now("decoder");
    const value = (_, j) => weight[j % this.t] > USED ? decoder[(j % this.t) * n + Math.floor(j / this.t)] : NaN;
    return Float32Array.from({ length: n * this.t }, value);
  }
  tell(name, t, v) {
    return `p(y = ${name} | t = ${t}) = ${v}`;
  }
}
