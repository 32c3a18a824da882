// The frame that all explorers share: controls above, pictures, what is said about them.
import { Controls } from "./controls.js";
import { Page } from "./data.js";
import { download, h } from "./elements.js";
import { TERMS } from "./words.js";

const STEPS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
const MIME = { pdf: "application/pdf", png: "image/png" };
const NO_ANSWER = "No kernel has answered: figures are drawn by the kernel, run the cell again.";

/** A kind of explorer has `build` (controls, panels), `say` (status line), `csv` (its table) and `name` (of it). */
export class App extends Controls {
  constructor(model, el) {
    super(model);
    Object.assign(this, { live: !(model instanceof Page), panels: [] });
    this.root = h("div", { class: "ncib", role: "group", "data-lm-suppress-shortcuts": "true" });
    el.replaceChildren(this.root);
    const failure = model.get("error");
    if (failure) this.root.append(h("p", { class: "ncib-error", role: "alert" }, failure));
    else this.start();
  }
  start() {
    this.arrange();
    this.listen("status", () => this.tell(this.get("status")));
    this.model.on("msg:custom", this.received = (message, buffers) => this.receive(message, buffers));
    this.build();
    this.grid.classList.toggle("ncib-five", this.panels.filter((p) => !p.wide).length === 5);
    this.export();
    for (const [term, sentence] of TERMS) this.mean(term, sentence);
    this.watch();
    this.width = this.root.clientWidth;
    this.draw();
  }
  /** Puts the parts in their order. */
  arrange() {
    this.said = h("p", { class: "ncib-said", role: "status", "aria-live": "polite" });
    this.grid = h("div", { class: "ncib-grid-of-panels" });
    this.state = h("p", { class: "ncib-state", role: "status" });
    this.buttons = h("div", { class: "ncib-buttons" });
    this.tooltip = h("div", { class: "ncib-tip", role: "tooltip", hidden: true });
    const head = h("div", { class: "ncib-head" }, this.controls, this.sliders, this.said); // stays in sight
    const words = h("details", { class: "ncib-words" }, h("summary", {}, "What the words mean"), this.meaning);
    this.root.append(head, this.grid, this.buttons, this.state, words, this.tooltip);
  }
  /** Draws again when the width or the theme changes; arrow keys anywhere move the main slider. */
  watch() {
    this.sizes = new ResizeObserver(() => {
      const width = this.root.clientWidth;
      if (!width || width === this.width) return;
      this.width = width;
      this.draw();
    });
    this.sizes.observe(this.root);
    const again = () => this.draw(), dark = window.matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", again);
    this.unwatch = () => dark.removeEventListener("change", again);
    this.themes = new MutationObserver(again);
    this.themes.observe(document.body, { attributes: true, attributeFilter: ["class", "data-jp-theme-name"] });
    this.root.addEventListener("keydown", (e) => {
      const step = STEPS[e.key];
      if (!step || e.ctrlKey || e.metaKey || ["INPUT", "SELECT"].includes(e.target.tagName)) return;
      this.main.step(step);
      e.preventDefault();
    });
    this.root.tabIndex = -1;
  }
  dispose() {
    this.sizes?.disconnect();
    this.themes?.disconnect();
    this.unwatch?.();
    this.stop();
    this.deafen();
    if (this.received) this.model.off("msg:custom", this.received);
  }
  /** Says how a request went, below the pictures. */
  tell(text) {
    this.state.textContent = text || "";
  }
  /** Shows a text beside the pointer, or nothing. */
  tip(text, e) {
    this.tooltip.hidden = !text;
    if (!text) return;
    this.tooltip.textContent = text;
    const r = this.root.getBoundingClientRect(), most = r.width - this.tooltip.offsetWidth;
    this.tooltip.style.left = Math.max(0, Math.min(e.clientX - r.left + 14, most)) + "px";
    this.tooltip.style.top = e.clientY - r.top + 16 + "px";
  }
  export() {
    const button = (text, label, f) =>
      this.buttons.append(h("button", { type: "button", "aria-label": label, onclick: f }, text));
    for (const kind of this.live ? ["png", "pdf"] : []) {
      const name = kind.toUpperCase();
      button(`figure as ${name}`, `export the current figure as ${name}`, () => this.request(kind));
    }
    const save = () => download(`${this.name}.csv`, new Blob([this.csv()], { type: "text/csv" }));
    button("table as CSV", "export the table as CSV", save);
  }
  /** Asks the kernel for the figure. */
  request(kind) {
    this.tell(`drawing the ${kind.toUpperCase()} …`);
    this.waiting = setTimeout(() => this.tell(NO_ANSWER), 20000);
    this.model.send({ type: "figure", format: kind });
  }
  receive(message, buffers) {
    if (message.type !== "figure") return;
    clearTimeout(this.waiting);
    if (message.error) return this.tell(message.error);
    this.tell(`The figure is in ${message.name}.`);
    download(message.name, new Blob([buffers[0]], { type: MIME[message.format] }));
  }
  /** All panels are measured before the first is changed: the browser lays the page out once. */
  draw() {
    const places = this.panels.map((p) => p.box.clientWidth);
    this.panels.forEach((p, i) => {
      if (!p.size(places[i])) return;
      p.draw();
      p.step();
    });
  }
  step() {
    for (const p of this.panels) if (p.w >= 60) p.step();
    this.say();
  }
  refresh() {
    this.draw();
    this.say();
  }
  add(panel) {
    this.panels.push(panel);
    this.grid.append(panel.element);
  }
}
