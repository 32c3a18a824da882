// The controls of an explorer: lists, switches, sliders.
import { h } from "./elements.js";
import { nearest } from "./data.js";

const OWN_LAYERS = ["backbone", "head"]; // of ncib's own encoders
const ABOUT_LAYERS =
  "Backbone: the network's pooled output. Head: the projection head's unit vectors, which the loss sees.";
const AWAY = "Not on this page: open the explorer in JupyterLab.";
const GREY = "Grey: not on this page, but in JupyterLab.";
const joined = (...sentences) => sentences.filter(Boolean).join(" ");

/** What a slider needs to be played: steps per second by how many positions it has. */
const pause = (last) => last > 40 ? 90 : 700; // milliseconds

/** State that controls show and set. `model`: that of the kernel, or a `Page`. */
export class Controls {
  static count = 0;
  constructor(model) {
    Object.assign(this, { model, kept: [] });
    this.controls = h("div", { class: "ncib-controls" });
    this.sliders = h("div", { class: "ncib-sliders" });
    this.meaning = h("dl");
  }
  listen(key, f) {
    this.model.on("change:" + key, f);
    this.kept.push(["change:" + key, f]);
  }
  deafen() {
    for (const [name, f] of this.kept) this.model.off(name, f);
  }
  get(key) {
    return this.model.get(key);
  }
  /**
   * The picture changes at once. ipywidgets holds messages back while the kernel is busy, and must know of every change
   * or an echo would undo it.
   */
  set(key, value) {
    this.model.set(key, value);
    this.model.save_changes();
  }
  /** Puts a term among the words that are explained. */
  mean(term, words) {
    if (words) this.meaning.append(h("dt", {}, term), h("dd", {}, words));
  }
  /** Calls a function now, and whenever a value changes. */
  showing(key, show) {
    show();
    this.listen(key, show);
  }
  /** A list; options: [value, text, there]; help: what pointing at it says. */
  select(label, key, options, help = "") {
    const items = options.map(([value, text, there = true]) =>
      h("option", { value: String(value), disabled: !there, title: there ? "" : AWAY }, text)
    );
    const list = h(
      "select",
      { "aria-label": label, onchange: () => this.set(key, options[list.selectedIndex][0]) },
      ...items,
    );
    this.mean(label, help);
    const title = joined(help, options.some(([, , there = true]) => !there) && GREY);
    this.showing(key, () => list.selectedIndex = options.findIndex(([v]) => v === this.get(key)));
    if (title) list.title = title;
    this.controls.append(h("label", { title }, label, list));
    return list;
  }
  /** Like `select`, for the few that should be seen at once; options: [value, text, there, why not]. */
  choice(label, key, options, help = "") {
    const name = `ncib-${key}-${++Controls.count}`;
    const buttons = options.map(([value, , there = true]) =>
      h("input", { type: "radio", name, value, disabled: !there, onchange: () => this.set(key, value) })
    );
    this.showing(key, () => buttons.forEach((b) => b.checked = b.value === this.get(key)));
    this.mean(label, help);
    const labels = options.map(([, text, there = true, why], i) =>
      h("label", { title: there ? help : joined(help, why) }, buttons[i], h("span", {}, text))
    );
    const group = { class: "ncib-choice", role: "radiogroup", "aria-label": label };
    this.controls.append(h("div", group, h("span", { "aria-hidden": "true" }, label), h("div", {}, ...labels)));
  }
  /** The switch between the layers of a pair; there: whether that at a position can be shown. */
  layers(there) {
    const names = this.get("layers"), own = names.every((l) => OWN_LAYERS.includes(l));
    const why = this.live ? "Not recorded in these runs." : AWAY;
    const options = (own ? OWN_LAYERS : names).map((layer) => {
      const position = names.indexOf(layer);
      return [layer, layer, position >= 0 && there(position), why];
    });
    this[options.length > 4 ? "select" : "choice"]("layer", "layer", options, own ? ABOUT_LAYERS : "");
  }
  /** Name of the packed data of the layer that was chosen: by position, since a layer may have any name. */
  held(kind) {
    return `${kind}_${this.get("layers").indexOf(this.get("layer"))}`;
  }
  /** A range over positions in list(), which may change; text: what a value is called. */
  slider(label, key, list, text) {
    const out = h("output"), input = h("input", { type: "range", min: 0, step: 1, "aria-label": label });
    const position = () => nearest(list(), this.get(key));
    const show = () => {
      const i = position(), values = list(), last = values.length - 1;
      if (+input.max !== last) input.max = last;
      if (+input.value !== i) input.value = i;
      out.textContent = text(values[i]);
      input.setAttribute("aria-valuetext", text(values[i]));
    };
    const go = (i) => {
      const values = list();
      this.set(key, values[Math.max(0, Math.min(values.length - 1, i))]);
    };
    input.addEventListener("input", () => go(+input.value));
    input.max = list().length - 1;
    this.showing(key, show);
    const slider = {
      out,
      show,
      position,
      go,
      step: (d) => go(position() + d),
      get last() {
        return list().length - 1;
      },
    };
    const play = h(
      "button",
      { type: "button", "aria-label": `play ${label}`, onclick: () => this.play(slider, play) },
      "▶ play",
    );
    this.sliders.append(h("div", { class: "ncib-slider" }, play, h("label", {}, h("span", {}, label), input), out));
    return slider;
  }
  /** Lets a slider run to its end; stops the one that runs. */
  play(slider, button) {
    const running = this.timer;
    this.stop();
    for (const b of this.sliders.querySelectorAll("button")) b.textContent = "▶ play";
    if (running) return;
    if (slider.position() === slider.last) slider.go(0);
    button.textContent = "❚❚ stop";
    this.timer = setInterval(() => {
      slider.step(1);
      if (slider.position() === slider.last) this.play(slider, button);
    }, pause(slider.last));
  }
  stop() {
    clearInterval(this.timer);
    this.timer = null;
  }
}
