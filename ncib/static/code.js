// The code T of every sample, with its noise, as β decides it.
import "./d3.js";
import { quantile } from "./data.js";
import { draw, h, show } from "./elements.js";
import { meanMark, sprite } from "./marks.js";
import { Panel } from "./panel.js";
import { number } from "./words.js";

/** How far the axes reach, in s.d. of the noise: few steps, so that they stay while β moves a little. */
const REACHES = [3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500, 1000, 3000, 1e4, 1e5];
const MEANT = { mode_x: "mode across", mode_y: "mode upwards" };
const TINY = 1e-9; // of a mode's share in an axis

/** One s.d. of noise whose covariance in the picture is Σ = ((xx, xy), (xy, yy)): 73 points of √Σ u. */
function ellipse(xx, xy, yy) {
  const det = Math.sqrt(Math.max(0, xx * yy - xy * xy)), root = Math.sqrt(xx + yy + 2 * det) || 1;
  return d3.range(73).map((i) => {
    const u = Math.cos(i * Math.PI / 36), v = Math.sin(i * Math.PI / 36);
    return [((xx + det) * u + xy * v) / root, (xy * u + (yy + det) * v) / root];
  });
}

export class Code extends Panel {
  constructor(app) {
    super(app, "The code T and its noise", { ratio: .8, most: 400, canvas: true });
    const input = (key) => {
      const oninput = (e) => {
        const mode = Math.round(+e.target.value);
        if (mode >= 1 && mode <= app.arrays.excess.shape[1]) app.set(key, mode);
      };
      return h("input", { type: "number", min: 1, value: app.get(key), "aria-label": MEANT[key], oninput });
    };
    this.pick = h("label", { hidden: true }, "modes ", input("mode_x"), " and ", input("mode_y"));
    this.caption.append(this.pick);
  }
  draw() {
    this.pick.hidden = this.app.get("view") !== "modes";
    this.labels = this.app.arrays.labels.values;
    this.reach = 0; // unknown: `step` makes the axes
    this.turn();
  }
  /** To another checkpoint. */
  turn() {
    const { app } = this, axes = app.row("axes"), modes = [app.get("mode_x") - 1, app.get("mode_y") - 1];
    this.variates = app.row("variates");
    this.noise = app.arrays.noise.values;
    this.e = app.row("excess");
    const share = app.get("view") === "modes" ? (i, d) => +(i === modes[d]) : (i, d) => axes[2 * i + d];
    this.axis = [0, 1].map((d) => Float64Array.from(this.e, (_, i) => share(i, d)));
  }
  /** Axes for the reach that the code has now. */
  frame() {
    const { classes } = this.app.info;
    this.svg.selectAll("*").remove();
    this.squareAxes(this.reach, "T (standard deviations of the noise)");
    this.ellipse = draw(this.svg, "path", { class: "ncib-ideal" });
    this.marks = classes.map((_, c) => {
      const mark = draw(this.svg, "g", { class: "ncib-mean" });
      meanMark(mark, c, classes.length, 80);
      return mark;
    });
    this.name(this.marks, classes.map((name) => classes.length > 1 && classes.length < 27 ? name : null));
  }
  step() {
    const e = 10 ** this.app.grid_values[this.app.at], [ax, ay] = this.axis;
    const active = d3.range(this.e.length).filter((i) => {
      return this.e[i] < e && (Math.abs(ax[i]) > TINY || Math.abs(ay[i]) > TINY);
    });
    this.encode(active, e);
    const far = Math.max(...[this.px, this.py].map((v) => quantile(v.map(Math.abs), .99)));
    const reach = REACHES.find((r) => r >= far * 1.05) || far;
    if (reach !== this.reach) {
      this.reach = reach;
      this.frame();
    }
    this.scatter();
    this.place();
    // the noise in the picture: 1 in every direction once all modes that span it are on
    const sum = (of) => active.reduce((s, i) => s + of(i), 0);
    const points = ellipse(sum((i) => ax[i] ** 2), sum((i) => ax[i] * ay[i]), sum((i) => ay[i] ** 2));
    this.ellipse.attr("d", d3.line()(points.map(([x, y]) => [this.x(x), this.y(y)])));
    this.tell(active.length);
  }
  /** The code of every sample, with noise, and the means of the classes, without. */
  encode(active, e) {
    const n = this.labels.length, m = this.e.length, [ax, ay] = this.axis;
    const gain = Float64Array.from(this.e, (v) => v < e ? Math.sqrt(e / v - 1) : 0);
    const sums = this.app.info.classes.map(() => [0, 0, 0]);
    this.px = new Float64Array(n);
    this.py = new Float64Array(n);
    for (let j = 0; j < n; j++) {
      const sum = sums[this.labels[j]];
      for (const i of active) {
        const t = gain[i] * this.variates[j * m + i], noisy = t + this.noise[j * m + i];
        this.px[j] += ax[i] * noisy;
        this.py[j] += ay[i] * noisy;
        sum[0] += ax[i] * t;
        sum[1] += ay[i] * t;
      }
      sum[2]++;
    }
    this.means = sums.map(([x, y, count]) => count ? [x / count, y / count] : null);
  }
  scatter() {
    const { pen, reach } = this, ratio = window.devicePixelRatio || 1;
    pen.clearRect(0, 0, this.w, this.h);
    for (let j = 0; j < this.labels.length; j++) {
      const x = this.x(this.px[j]),
        y = this.y(this.py[j]),
        inside = Math.abs(this.px[j]) < reach && Math.abs(this.py[j]) < reach;
      if (inside) pen.drawImage(sprite(this.labels[j], ratio), x - 4, y - 4, 8, 8);
    }
  }
  /** Puts the class means, and their names, where they are. */
  place() {
    const many = this.means.length > 1, pixels = this.means.map((m) => m && [this.x(m[0]), this.y(m[1])]);
    this.marks.forEach((mark, c) => {
      show(mark, pixels[c] && many);
      mark.attr("transform", pixels[c] ? `translate(${pixels[c]})` : null);
    });
    this.settle(many ? pixels : pixels.map(() => null), [this.left + 2, 0, this.w, this.y0 - 2]);
  }
  tell(count) {
    const modes = count ? `${count} mode${count > 1 ? "s" : ""} in the picture` : "No mode is on: the code is empty";
    const drawn = this.app.info.simulated ? " Samples are drawn from the Gaussian model." : "";
    this.note.textContent = `${modes}. Dashed: one standard deviation of the noise.${drawn}`;
    this.describe(`The code T: ${this.note.textContent}`);
  }
  hover(x, y) {
    const { classes } = this.app.info;
    let best = 120, found = -1; // square pixels
    for (let j = 0; j < this.px.length; j++) {
      const d = (this.x(this.px[j]) - x) ** 2 + (this.y(this.py[j]) - y) ** 2;
      if (d < best) [best, found] = [d, j];
    }
    if (found < 0) return null;
    const who = classes.length > 1 ? `class ${classes[this.labels[found]]}, ` : "";
    return `${who}sample: T = ${number(this.px[found])}, ${number(this.py[found])} standard deviations of the noise`;
  }
}
