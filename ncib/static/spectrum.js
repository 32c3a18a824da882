// The critical β of every mode.
import "./d3.js";
import { at, finite, positive } from "./data.js";
import { draw, set, show, stroke, write } from "./elements.js";
import { ORANGE } from "./marks.js";
import { Panel } from "./panel.js";
import { number } from "./words.js";

const REACH = 18 ** 2; // square pixels from which a mode can be pointed at

/** A mode and its correlation, from e = β_c − 1. */
export const modeWords = (i, e, symbol = "canonical correlation ρ") =>
  `mode ${i + 1}: β_c − 1 = ${number(e)}, ${symbol} = ${number(1 / Math.sqrt(1 + e), 4)}`;

export class Spectrum extends Panel {
  constructor(app, c) {
    super(app, "");
    this.c = c;
    this.steer({
      now: () => app.currentMode(c) - 1,
      last: () => app.mode(c, "excess").shape[1] - 1,
      go: (i) => app.set("mode", i + 1),
      text: () => this.say(app.currentMode(c) - 1),
    });
  }
  /** Values of all pairs that are compared: they have one axis. */
  all(name) {
    return d3.range(this.app.pairs).flatMap((c) => finite(this.app.mode(c, name).values));
  }
  draw() {
    const { app } = this;
    this.k1 = app.info(this.c).classes.length - 1;
    this.m = Math.max(...d3.range(app.pairs).map((c) => app.mode(c, "excess").shape[1]));
    this.caption.textContent = app.title(this.c, "Critical β: when a mode enters");
    const logs = [...this.all("excess").filter((v) => v > 0), ...this.all("threshold")].map(Math.log10);
    const low = d3.min(logs) ?? -1, high = d3.max(logs) ?? 1, pad = .06 * (high - low) + .05;
    this.x = d3.scaleLinear([.4, this.m + .6], [this.x0, this.x1]);
    this.y = d3.scaleLinear([low - pad, high + pad], [this.y0, this.y1]);
    this.axes(this.x, this.y, "mode of the bottleneck", "log₁₀(β_c − 1)");
    const ticks = Math.min(this.m, Math.floor((this.x1 - this.x0) / 40));
    const whole = d3.axisBottom(this.x).ticks(ticks).tickFormat(d3.format("d")).tickSizeOuter(0);
    this.svg.select(".ncib-axes g").call(whole);
    this.marks();
  }
  /** Gap, chance level, ring and dots; `step` places them. */
  marks() {
    this.gap = draw(this.svg, "rect", { fill: ORANGE, opacity: .35 });
    this.gapText = draw(this.svg, "text", { class: "ncib-label" });
    this.chance = stroke(this.svg, "ncib-chance");
    this.chanceText = write(this.svg, "chance level", { class: "ncib-small", "text-anchor": "end", x: this.x1 });
    this.ring = draw(this.svg, "circle", { class: "ncib-ring", r: 9 });
    this.dots = d3.range(this.m).map((i) => {
      const kind = i < this.k1 ? "ncib-mode" : "ncib-mode ncib-further";
      return draw(this.svg, "circle", { r: this.m > 60 ? 2.5 : 4.5, class: kind, cx: this.x(i + 1) });
    });
  }
  step() {
    const { app, k1 } = this, t = app.index(this.c), e = at(app.mode(this.c, "excess"), t);
    const height = (v) => this.y(Math.log10(v)), threshold = app.mode(this.c, "threshold").values[t];
    const gap = app.mode(this.c, "gap").values[t];
    this.places = this.dots.map((dot, i) => {
      const seen = positive(e[i]);
      show(dot, seen);
      if (!seen) return null;
      dot.attr("cy", height(e[i]));
      return [this.x(i + 1), height(e[i])];
    });
    // where noise hides the next mode, the gap ends at the chance level
    const noise = positive(threshold) && threshold > e[k1 - 1] ? threshold : NaN,
      next = positive(e[k1]) ? e[k1] : noise;
    this.open(positive(e[k1 - 1]) && positive(next), height(e[k1 - 1]), height(next), gap);
    this.level(positive(threshold), height(threshold));
    const place = this.places[app.currentMode(this.c) - 1];
    show(this.ring, place);
    if (place) set(this.ring, { cx: place[0], cy: place[1] });
    const further = this.m > k1 ? "; open: further modes" : "";
    this.note.textContent =
      `Filled: modes 1 to ${k1} = K−1${further}. Click a mode, or go there with the arrow keys, ` +
      "to see which classes it separates.";
    this.describe(
      `Critical betas: mode 1 at β − 1 = ${number(e[0])}, mode ${k1} at ${number(e[k1 - 1])}, ` +
        `gap behind it a factor of ${number(gap)}`,
    );
  }
  /** The gap behind mode K−1, between two heights in pixels. */
  open(seen, low, high, gap) {
    show(this.gap, seen);
    show(this.gapText, seen);
    if (!seen) return;
    const left = this.x(this.k1), right = this.x(Math.min(this.k1 + 1, this.m + .6)), inside = right + 120 < this.x1;
    set(this.gap, { x: left, width: right - left, y: high, height: Math.max(0, low - high) });
    this.gapText.text(`gap ×${number(gap)}`);
    set(this.gapText, {
      x: inside ? right + 6 : left - 6,
      y: Math.min(this.y0 - 4, (high + low) / 2 + (inside ? 14 : -14)),
      "text-anchor": inside ? "start" : "end",
    });
  }
  /** The chance level, at a height in pixels. */
  level(seen, y) {
    show(this.chance, seen);
    show(this.chanceText, seen);
    if (!seen) return;
    set(this.chance, { x1: this.x0, x2: this.x1, y1: y, y2: y });
    this.chanceText.attr("y", y - 4);
  }
  /** The mode that lies nearest to the pointer, or null. */
  near(x, y) {
    let best = REACH, found = null;
    this.places.forEach((place, i) => {
      const d = place ? (place[0] - x) ** 2 + (place[1] - y) ** 2 : Infinity;
      if (d < best) [best, found] = [d, i];
    });
    return found;
  }
  say(i) {
    return modeWords(i, at(this.app.mode(this.c, "excess"), this.app.index(this.c))[i]);
  }
  hover(x, y) {
    const i = this.near(x, y);
    return i === null ? null : this.say(i);
  }
  click(x, y) {
    const i = this.near(x, y);
    if (i !== null) this.app.set("mode", i + 1);
  }
}
