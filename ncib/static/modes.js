// Which classes a mode separates: the means of the classes along it.
import "./d3.js";
import { at, finite } from "./data.js";
import { draw, h, set, stroke } from "./elements.js";
import { colour } from "./marks.js";
import { Panel } from "./panel.js";
import { called, number } from "./words.js";

export class Modes extends Panel {
  constructor(app, c) {
    super(app, "");
    this.c = c;
    const oninput = () => {
      const mode = Math.round(+this.input.value);
      if (mode >= 1) app.set("mode", mode);
    };
    this.input = h("input", { type: "number", min: 1, value: app.get("mode"), oninput });
    this.words = h("span");
    this.caption.append(this.words, h("label", {}, "mode ", this.input));
  }
  draw() {
    const { app } = this;
    this.groups = app.groups(this.c);
    this.grouped = app.grouped(this.c);
    const names = this.groups.map((g) => g.name), k = names.length, kind = this.grouped ? "superclass" : "class";
    this.words.textContent = app.title(this.c, this.grouped ? "Superclasses separated by" : "Classes separated by");
    this.input.max = app.mode(this.c, "excess").shape[1];
    const most = (c, name) => d3.max(finite(app.mode(c, name).values).map(Math.abs)) ?? 1;
    const largest = (c) => most(c, "mode_means") + (app.grouped(c) ? most(c, "mode_spread") : 0);
    const reach = Math.max(...d3.range(app.pairs).map(largest), .5);
    this.x = d3.scaleBand(d3.range(k), [this.x0, this.x1]).padding(k > 40 ? 0 : .2);
    this.y = d3.scaleLinear([-reach, reach], [this.y0, this.y1]);
    this.axes(this.x, this.y, kind, `${kind} mean (s.d.)`);
    this.svg.select(".ncib-axes g").call(this.classAxis(names));
    this.bars = names.map((_, c) => {
      const bar = { x: this.x(c), width: this.x.bandwidth(), fill: colour(c) };
      return draw(this.svg, "rect", { class: k > 40 ? "" : "ncib-mark", ...bar });
    });
    this.spans = this.grouped ? this.bars.map(() => stroke(this.svg, "ncib-span", {})) : [];
    const zero = this.y(0);
    stroke(this.svg, "ncib-zero", { x1: this.x0, x2: this.x1, y1: zero, y2: zero });
  }
  /** As many names as there is room for. */
  classAxis(names) {
    const letters = Math.min(8, Math.max(...names.map((n) => n.length))), wide = this.x1 - this.x0;
    const every = Math.ceil(names.length / Math.max(4, Math.floor(wide / (9 + 7 * letters))));
    return d3.axisBottom(this.x).tickValues(d3.range(0, names.length, every)).tickFormat((i) =>
      names[i].slice(0, 8).replace(/ \+?$/, "")
    ).tickSizeOuter(0);
  }
  /** Means along the mode that was chosen, or their spread within each superclass. */
  now(name) {
    const means = this.app.mode(this.c, name), k = means.shape[2], mode = this.app.currentMode(this.c);
    return at(means, this.app.index(this.c)).subarray((mode - 1) * k, mode * k);
  }
  step() {
    const means = this.now("mode_means"), mode = this.app.currentMode(this.c);
    if (document.activeElement !== this.input) this.input.value = mode;
    this.bars.forEach((bar, c) => {
      const [zero, end] = [this.y(0), this.y(means[c])];
      set(bar, { y: Math.min(end, zero), height: Math.abs(end - zero) });
    });
    const spread = this.grouped ? this.now("mode_spread") : [];
    this.spans.forEach((span, c) => {
      const x = this.x(c) + this.x.bandwidth() / 2;
      set(span, { x1: x, x2: x, y1: this.y(means[c] - spread[c]), y2: this.y(means[c] + spread[c]) });
    });
    this.note.textContent = this.separated(means, mode);
    this.describe(this.note.textContent);
  }
  /** What a mode separates, in words; one that separates classes within superclasses hardly moves their means. */
  separated(means, mode) {
    const most = Math.max(...means.map(Math.abs)), shared = `Mode ${mode} separates no classes`;
    const up = this.side(means, most, 1) || "no single class", down = this.side(means, most, -1) || "the others";
    const spread = this.grouped ? this.now("mode_spread") : [0], widest = Math.max(...spread);
    if (widest > most) return `Mode ${mode} separates classes within ${this.groups[spread.indexOf(widest)].name}.`;
    if (most < .05) return `${shared}: it is about something that they share.`;
    return `Mode ${mode} separates ${up} from ${down}.`;
  }
  /** Up to five classes on one side, the furthest first; others lie less than half as far out. */
  side(means, most, sign) {
    const found = this.groups.map(({ name }, c) => [sign * means[c], name]).filter(([v]) => v > most / 2);
    return found.sort((a, b) => b[0] - a[0]).slice(0, 5).map(([, name]) => name).join(", ");
  }
  hover(x) {
    const c = Math.floor((x - this.x0) / this.x.step());
    if (c < 0 || c >= this.groups.length) return null;
    const mean = number(this.now("mode_means")[c]), mode = `mode ${this.app.currentMode(this.c)}`;
    if (!this.grouped) return `class ${this.groups[c].name}, ${mode}: mean ${mean} standard deviations`;
    const spread = number(this.now("mode_spread")[c]);
    return `superclass ${called(this.groups[c])}, ${mode}: mean ${mean} standard deviations, its classes ± ${spread}`;
  }
}
