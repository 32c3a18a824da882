// The explorer of a sweep over β.
import { App } from "./app.js";
import { Meaning, Members, Tree } from "./clusters.js";
import { Code } from "./code.js";
import { at, csv, lastUpTo, nearest, unpack } from "./data.js";
import { h } from "./elements.js";
import { Growth } from "./growth.js";
import { Information } from "./information.js";
import { Plane } from "./plane.js";
import { explained, number, percent } from "./words.js";

const ABOUT_SWEEP = {
  unit: "Unit of information: a nat is 1.44 bits.",
  view: "From which side the code T is seen: in the plane in which the classes lie nearest to a regular polygon, or " +
    "along two modes of your choice.",
};

/** One Gaussian bottleneck, those of all checkpoints of a pair, or a discrete one. */
export class Sweep extends App {
  name = "sweep";
  build() {
    this.root.setAttribute("aria-label", "explorer of a sweep over β");
    this.bundles = {};
    const keys = ["data", ...this.get("layers").map((_, i) => `features_${i}`)];
    for (const key of keys) this.load(key);
    this.choose();
    for (
      const kind of this.gaussian ? [Growth, Code, Information, Plane] : [Tree, Members, Meaning, Information, Plane]
    ) {
      this.add(new kind(this));
    }
    this.listen("log_excess", () => this.step());
    this.listen("epoch", () => this.turn());
    for (const key of ["unit", "view", "mode_x", "mode_y"]) this.listen(key, () => this.refresh());
    this.listen("layer", () => this.renew());
    for (const key of keys) {
      this.listen(key, () => {
        this.load(key);
        this.renew();
      });
    }
    this.say();
  }
  choose() {
    const { info } = this, views = [["plane", "in the plane of the classes", info.classes?.length > 1]];
    if (info.layer) this.layers((i) => this.live || !!this.bundles[`features_${i}`]);
    this.select("information in", "unit", [["nats", "nats"], ["bits", "bits"]], ABOUT_SWEEP.unit);
    if (this.gaussian) this.select("code seen", "view", [...views, ["modes", "along two modes"]], ABOUT_SWEEP.view);
    if (info.epochs?.length > 1) {
      this.epochs = this.slider("epoch", "epoch", () => this.info.epochs, (e) => `epoch ${e}`);
    }
    this.main = this.slider("β", "log_excess", () => this.grid_values, (v) => `β = 1 + ${number(10 ** v)}`);
    if (!info.layer) return;
    const go = () => this.set("log_excess", this.corner.at);
    this.toCorner = h("button", { type: "button", onclick: go }, "★ to the corner");
    this.main.out.after(this.toCorner);
  }

  // What is held

  load(key) {
    const data = this.get(key);
    if (!data || !data.byteLength) return;
    const [bundle] = unpack(data);
    this.bundles[key] = { ...bundle, grid: Array.from(bundle.arrays.log_excess.values) };
  }
  /** The layer that was chosen; while the kernel computes it, the one before. */
  get bundle() {
    const now = this.held("features");
    if (this.bundles[now]) this.shown = now;
    return this.bundles[this.shown ||= Object.keys(this.bundles)[0]];
  }
  get info() {
    return this.bundle.info;
  }
  get gaussian() {
    return this.info.kind === "gaussian";
  }
  get arrays() {
    return this.bundle.arrays;
  }
  get grid_values() {
    return this.bundle.grid;
  }
  /** Position of β on the grid. */
  get at() {
    return nearest(this.grid_values, this.get("log_excess"));
  }
  get checkpoint() {
    return this.info.epochs ? lastUpTo(this.info.epochs, this.get("epoch")) : 0;
  }
  /** From nats to the unit that was chosen. */
  get factor() {
    return this.get("unit") === "bits" ? 1 / Math.LN2 : 1;
  }
  row(name) {
    return at(this.arrays[name], this.checkpoint);
  }
  /** I(X;T) or I(T;Y) over the grid, in the unit that was chosen. */
  curve(name) {
    return Array.from(this.row(name), (v) => v * this.factor);
  }
  /** Where the class modes are in and the next one is about to enter; without `rate` there is none. */
  get corner() {
    const of = (name) => this.arrays[`corner_${name}`]?.values[this.checkpoint] ?? NaN, u = this.get("unit");
    const [rate, best, told] = ["ixt", "best", "iyt"].map((name) => this.factor * of(name));
    if (!Number.isFinite(rate)) return { words: `No corner: ${this.info.no_corner?.[this.checkpoint]}.` };
    const short = `${number(best - told, 2)} ${u} short`, share = percent((best - told) / best);
    const hidden = this.info.corner_hidden[this.checkpoint] ? ", where noise would hide the next mode" : "";
    const words = `Corner at I(X;T) = ${number(rate)} ${u}${hidden}: the best code (★) tells ${number(best)} ${u}, ` +
      `the class means' code (▼) ${number(told)}: ${short}, ${share} of the best.`;
    return { rate, best, told, at: of("log_excess"), short, share, words };
  }
  /** How many modes are on. */
  on() {
    const e = 10 ** this.grid_values[this.at];
    return this.row("excess").filter((v) => v < e).length;
  }
  /** How many clusters are in use. */
  clusters() {
    return at(this.arrays.weight, this.at).filter((w) => w > 1e-6).length;
  }

  // What changes

  /** To another checkpoint: axes are those of all checkpoints, and stay. */
  turn() {
    for (const p of this.panels) if (p.w >= 60) p.turn?.();
    this.step();
  }
  /** To another layer: β and checkpoint stay; the grid of β is the layer's own. */
  renew() {
    this.main.show();
    this.epochs?.show();
    this.refresh();
  }

  // Words

  say() {
    const { info } = this,
      u = this.get("unit"),
      value = (name) => `${number(this.factor * this.row(name)[this.at])} ${u}`;
    const on = this.gaussian
      ? `${this.on()} of ${info.total} modes are on`
      : `${this.clusters()} clusters of ${info.names_x.length} x`;
    if (this.toCorner) {
      const { rate, words } = this.corner;
      Object.assign(this.toCorner, { disabled: !rate, title: words });
    }
    const x = info.encoders ? `X: encoder ${info.side.toUpperCase()} (${info.encoders[+(info.side === "b")]}). ` : "";
    const beta = `β = 1 + ${number(10 ** this.grid_values[this.at])}`;
    const line = `${beta}: ${on}; I(X;T) = ${value("ixt")}, I(T;Y) = ${value("iyt")}.`;
    const notes = (info.notes || []).map((n) => h("span", {}, n + "."));
    this.said.replaceChildren(h("span", {}, x, ...explained(line)), ...notes);
  }
  /** The information curve of every checkpoint, nats. */
  csv() {
    const { epochs } = this.info, epoch = (value) => epochs ? [value] : [];
    const table = [[...epoch("epoch"), "log10_beta_minus_1", "beta", "ixt_nats", "iyt_nats"]];
    for (let c = 0; c < this.arrays.ixt.shape[0]; c++) {
      const [ixt, iyt] = ["ixt", "iyt"].map((name) => at(this.arrays[name], c));
      this.grid_values.forEach((v, i) => table.push([...epoch(epochs?.[c]), v, 1 + 10 ** v, ixt[i], iyt[i]]));
    }
    return csv(table);
  }
}
