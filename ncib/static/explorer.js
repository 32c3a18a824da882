// The explorers' rendering: all data is in the page, so that stepping needs no kernel. The name d3 is bound by d3.js, which stands before this text.

const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#777777"];   // Okabe & Ito; shapes tell apart what repeats
const BLUE = "var(--ncib-strong)", RED = "var(--ncib-warm)", ORANGE = COLOURS[3];      // lines and texts: 3 : 1 and 4.5 : 1 against the page in both themes
const SHAPES = [d3.symbolCircle, d3.symbolTriangle, d3.symbolSquare, d3.symbolDiamond];
const colour = (c) => COLOURS[c % 7], shape = (c) => SHAPES[Math.floor(c / 7) % 4];
const RELEVANCE = {twin: "twin encoder, same image", paired: "twin encoder, other image of the class", labels: "label"};
const number = (v, digits = 3) => v === null || v === undefined || Number.isNaN(v) ? "none" : v === Infinity ? "∞" : String(Number(v.toPrecision(digits))).replace("-", "−");

const percent = (v) => v === null || v === undefined || Number.isNaN(v) ? "none" : `${(100 * v).toFixed(1)} %`;

const TERMS = [                               // what the status line and the notes speak of
  ["NC1", /NC1/, "Spread of the features within the classes, relative to the spread between the means of the classes; 0 when every class has shrunk to a point."],
  ["simplex ETF", /simplex ETF/, "The arrangement in which the class means are equally long and all equally far apart, as far as they can be."],
  ["mode", /modes? are on/, "A direction of one encoder's features and its partner in the other's: the first mode is the one along which they agree most."],
  ["β_c", /β_c/, "Critical β: how much a nat of what is told must be worth before the best code takes up a mode."],
  ["transitions", /transitions/, "Modes that enter the best code before the largest gap of log(β_c − 1)."],
  ["gap behind mode K−1", /gap behind mode \d+/, "Factor in β_c − 1 from the last of the K−1 first modes to the next one."],
  ["I(X;T), I(T;Y)", /I\(X;T\)/, "I(X;T) is what the code T keeps of the features X; I(T;Y) is what it tells about the other encoder's features, Y."],
];
const SPOTS = new RegExp(TERMS.map(([, r]) => `(${r.source})`).join("|"));
function explained(text) {                    // a text as nodes, its terms with what they mean under the pointer
  const m = SPOTS.exec(text);
  if (!m) return [text];
  return [text.slice(0, m.index), h("abbr", {title: TERMS[m.slice(1).findIndex((v) => v !== undefined)][2]}, m[0]), ...explained(text.slice(m.index + m[0].length))];
}

const ANGLES = [-45, 0, -90, 45, -135, 90, 180, 135, -22.5, -67.5, 22.5, 67.5, -112.5, -157.5, 112.5, 157.5].map((a) => [Math.cos(a * Math.PI / 180), Math.sin(a * Math.PI / 180)]);
export function placeLabels(points, sizes, [left, top, right, bottom], radius = 6) {      // centres of labels that lie on no other label and on no mark, as ncib.plots.place_labels
  const taken = points.map(([x, y]) => [x - radius, y - radius, x + radius, y + radius]), reach = (u, half) => Math.sign(u) * Math.min(1, Math.abs(u) * 1.42) * half;
  return points.map(([px, py], i) => {
    const w = sizes[i][0] / 2, hgt = sizes[i][1] / 2;
    let least = Infinity, best = null;
    for (let ring = 0; ring < 8 && least > 1e-9; ring++) for (const [ux, uy] of ANGLES) {
      const d = radius + 1 + 8 * ring, x = px + ux * d + reach(ux, w), y = py + uy * d + reach(uy, hgt), me = [x - w, y - hgt, x + w, y + hgt];
      let cost = 1e3 * (Math.max(0, left - me[0]) + Math.max(0, top - me[1]) + Math.max(0, me[2] - right) + Math.max(0, me[3] - bottom));
      for (const o of taken) { const ox = Math.min(me[2], o[2]) - Math.max(me[0], o[0]), oy = Math.min(me[3], o[3]) - Math.max(me[1], o[1]); if (ox > 0 && oy > 0) cost += ox * oy; }
      if (cost < least - 1e-9) { least = cost; best = {x, y, led: ring > 0, me}; }
      if (least <= 1e-9) break;
    }
    taken.push(best.me);
    return best;
  });
}

// ---------------------------------------------------------------- data

const TYPES = {float32: Float32Array, int16: Int16Array, uint32: Uint32Array, uint16: Uint16Array, uint8: Uint8Array};

function unpack(data) {                       // what ncib.pages.pack wrote: [{info, arrays: {name: {shape, values}}}]
  const bytes = ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice() : new Uint8Array(data);
  const length = new DataView(bytes.buffer).getUint32(0, true), start = 8 * Math.ceil((4 + length) / 8);
  const parts = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  for (const part of parts)
    for (const [name, {dtype, shape, offset, scale}] of Object.entries(part.arrays)) {
      const raw = new TYPES[dtype](bytes.buffer, start + offset, shape.reduce((a, b) => a * b, 1));
      part.arrays[name] = {shape, values: scale ? Float32Array.from(raw, (v) => v * scale) : raw};
    }
  return parts;
}

const at = (array, i) => { const n = array.values.length / array.shape[0]; return array.values.subarray(i * n, (i + 1) * n); };
const finite = (values) => Array.from(values).filter(Number.isFinite);
const quantile = (values, p) => d3.quantile(Float64Array.from(values).sort(), p) || 0;

class Page {                                  // stands for the kernel's model where there is no kernel
  constructor(state) { this.state = state; this.handlers = {}; }
  get(key) { return this.state[key]; }
  set(key, value) { if (this.state[key] !== value) { this.state[key] = value; (this.handlers["change:" + key] || []).forEach((f) => f()); } }
  on(name, handler) { (this.handlers[name] ||= []).push(handler); }
  off() { this.handlers = {}; }
  save_changes() {}
}

// ---------------------------------------------------------------- elements

function h(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) k.startsWith("on") ? e.addEventListener(k.slice(2), v) : v !== undefined && v !== false && e.setAttribute(k, v === true ? "" : v);
  if (["input", "select", "button", "summary"].includes(tag)) e.setAttribute("data-lm-suppress-shortcuts", "true");       // or JupyterLab takes the arrow keys
  e.append(...children.filter((c) => c !== null));
  return e;
}

function download(name, blob) {
  const a = h("a", {href: URL.createObjectURL(blob), download: name});
  document.body.append(a); a.click(); a.remove();
  setTimeout(() => URL.revokeObjectURL(a.href), 10000);
}

class Panel {                                 // a figure with a title, an SVG of its own size in pixels, and perhaps a canvas under it
  constructor(app, title, {ratio = .62, most = 340, margin = {top: 8, right: 12, bottom: 42, left: 62}, canvas = false} = {}) {
    Object.assign(this, {app, ratio, most, margin});
    this.caption = h("figcaption", {}, title);
    this.box = h("div", {class: "ncib-box"});
    if (canvas) this.box.append(this.canvas = h("canvas", {"aria-hidden": "true"}));
    this.svg = d3.select(this.box).append("svg").attr("role", "img");
    this.note = h("p", {class: "ncib-note"});
    this.element = h("figure", {class: "ncib-panel"}, this.caption, this.box, this.note);
    this.box.addEventListener("pointermove", (e) => { const [x, y] = this.local(e); app.tip(this.hover?.(x, y), e); });
    this.box.addEventListener("pointerleave", () => app.tip());
    this.box.addEventListener("click", (e) => this.click?.(...this.local(e)));
  }
  local(e) { const r = this.box.getBoundingClientRect(); return [e.clientX - r.left, e.clientY - r.top]; }
  size(place = this.box.clientWidth) {        // takes the place there is; true when it can be drawn
    this.w = Math.floor(place); this.h = Math.min(this.most, Math.max(190, Math.round(this.w * this.ratio)));
    if (this.w < 60) return false;
    this.svg.attr("viewBox", `0 0 ${this.w} ${this.h}`).selectAll("*").remove();
    this.box.style.aspectRatio = `${this.w} / ${this.h}`;       // on paper the whole picture shrinks, canvas and SVG alike
    if (this.canvas) {
      const d = window.devicePixelRatio || 1;
      Object.assign(this.canvas, {width: Math.round(this.w * d), height: Math.round(this.h * d)});
      this.pen = this.canvas.getContext("2d"); this.pen.setTransform(d, 0, 0, d, 0, 0);
    }
    const m = this.margin;
    Object.assign(this, {x0: m.left, x1: this.w - m.right, y0: this.h - m.bottom, y1: m.top});
    return true;
  }
  axes(x, y, xlabel, ylabel, {xticks, yticks, y0 = this.y0, y1 = this.y1, bottom = true} = {}) {
    const g = this.svg.append("g").attr("class", "ncib-axes"), mid = (y0 + y1) / 2;
    const left = d3.axisLeft(y).ticks(Math.max(2, Math.floor((y0 - y1) / 38))).tickSizeOuter(0), below = d3.axisBottom(x).ticks(Math.max(2, Math.floor((this.x1 - this.x0) / 62))).tickSizeOuter(0);
    if (xticks) below.tickValues(xticks).tickFormat((v) => v);
    if (yticks) left.tickValues(yticks).tickFormat(d3.format("~g"));
    if (bottom) g.append("g").attr("transform", `translate(0,${y0})`).call(below);
    g.append("g").attr("transform", `translate(${this.x0},0)`).call(left).selectAll(".tick line").clone().attr("x2", this.x1 - this.x0).attr("class", "ncib-grid");
    if (bottom) g.append("text").attr("x", (this.x0 + this.x1) / 2).attr("y", y0 + 34).attr("text-anchor", "middle").text(xlabel);
    g.append("text").attr("transform", `translate(12,${mid}) rotate(-90)`).attr("text-anchor", "middle").text(ylabel);
  }
  marker(key, c, x, y, attributes = {}) {      // a symbol that later steps move
    const m = this.svg.append("path").attr("d", d3.symbol(shape(c), attributes.size || 90)()).attr("class", "ncib-mark").attr("fill", attributes.fill || colour(c));
    return m.attr("transform", `translate(${x},${y})`);
  }
  title(text, hint) { this.caption.replaceChildren(text, ...(hint ? [h("span", {class: "ncib-hint"}, ` (${hint})`)] : [])); }
  describe(text) {
    this.svg.attr("aria-label", text);
    if (this.steered) this.svg.attr("aria-valuemin", 0).attr("aria-valuemax", this.steered.last()).attr("aria-valuenow", this.steered.now()).attr("aria-valuetext", this.steered.text());
  }
  steer(steered) {                            // arrow keys in the picture: now(), last(), go(i), text()
    this.steered = steered;
    this.svg.attr("role", "slider").attr("tabindex", 0).on("keydown", (e) => {
      const last = steered.last(), at = {ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: Math.ceil(last / 10), PageDown: -Math.ceil(last / 10), Home: -Infinity, End: Infinity}[e.key];
      if (!at || e.ctrlKey || e.metaKey || e.altKey) return;
      steered.go(Math.max(0, Math.min(last, steered.now() + at)));
      e.preventDefault(); e.stopPropagation();
    });
  }
  follow(slider) { this.steer({now: () => slider.position(), last: () => slider.last, go: (i) => slider.go(i), text: () => slider.out.textContent}); }
  name(marks, names) {                        // names of class means; `settle` places them
    this.named = marks.map((g, i) => names[i] === null ? null : {line: g.append("line").attr("class", "ncib-leader"), text: g.append("text").attr("text-anchor", "middle").text(names[i])});
    for (const n of this.named) if (n) n.size = [n.text.node().getComputedTextLength() || 7 * n.text.text().length, 14];
  }
  settle(points, box) {                       // points: pixels, or null where there is none
    const shown = d3.range(points.length).filter((i) => points[i] && this.named[i]), places = placeLabels(shown.map((i) => points[i]), shown.map((i) => this.named[i].size), box);
    shown.forEach((i, j) => {
      const {x, y, led} = places[j], [px, py] = points[i], {text, line} = this.named[i];
      text.attr("x", x - px).attr("y", y - py + 4.5);
      line.attr("visibility", led ? null : "hidden").attr("x2", x - px).attr("y2", y - py);
    });
  }
}

const sprites = new Map();
function sprite(c, ratio) {                   // the marker of one class, drawn once
  const key = c % 28 + "/" + ratio;
  if (!sprites.has(key)) {
    const s = h("canvas", {width: Math.ceil(8 * ratio), height: Math.ceil(8 * ratio)}), pen = s.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 4 * ratio, 4 * ratio);
    pen.fillStyle = colour(c); pen.globalAlpha = .5;
    pen.fill(new Path2D(d3.symbol(shape(c), 14)()));
    sprites.set(key, s);
  }
  return sprites.get(key);
}

// ---------------------------------------------------------------- the frame that all explorers share

const OWN_LAYERS = ["backbone", "head"];      // of ncib's own encoders

class App {
  static count = 0;
  constructor(model, el) {
    Object.assign(this, {model, live: !(model instanceof Page), panels: [], keep: []});
    this.root = h("div", {class: "ncib", role: "group", "data-lm-suppress-shortcuts": "true"});
    el.replaceChildren(this.root);
    const failure = model.get("error");
    if (failure) { this.root.append(h("p", {class: "ncib-error", role: "alert"}, failure)); return; }
    this.controls = h("div", {class: "ncib-controls"});
    this.sliders = h("div", {class: "ncib-sliders"});
    this.said = h("p", {class: "ncib-said", role: "status", "aria-live": "polite"});
    this.grid = h("div", {class: "ncib-grid-of-panels"});
    this.state = h("p", {class: "ncib-state", role: "status"});
    this.buttons = h("div", {class: "ncib-buttons"});
    this.tooltip = h("div", {class: "ncib-tip", role: "tooltip", hidden: true});
    this.head = h("div", {class: "ncib-head"}, this.controls, this.sliders, this.said);          // stays in sight
    this.meaning = h("dl");
    this.words = h("details", {class: "ncib-words"}, h("summary", {}, "What the words mean"), this.meaning);
    this.root.append(this.head, this.grid, this.buttons, this.state, this.words, this.tooltip);
    this.listen("status", () => this.tell(model.get("status")));
    model.on("msg:custom", this.received = (message, buffers) => this.receive(message, buffers));
    this.build();
    this.grid.classList.toggle("ncib-five", this.panels.filter((p) => !p.wide).length === 5);
    this.export();
    for (const [term, , words] of TERMS) this.mean(term, words);
    this.observer = new ResizeObserver(() => { const w = this.root.clientWidth; if (w && w !== this.width) { this.width = w; this.draw(); } });
    this.observer.observe(this.root);
    const again = () => this.draw();
    this.theme = window.matchMedia("(prefers-color-scheme: dark)"); this.theme.addEventListener("change", again);
    this.watch = new MutationObserver(again); this.watch.observe(document.body, {attributes: true, attributeFilter: ["class", "data-jp-theme-name"]});
    this.root.addEventListener("keydown", (e) => {
      const step = {ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1}[e.key];
      if (step && !e.ctrlKey && !e.metaKey && !["INPUT", "SELECT"].includes(e.target.tagName)) { this.main.step(step); e.preventDefault(); }
    });
    this.root.tabIndex = -1;
    this.width = this.root.clientWidth; this.draw();
  }
  dispose() { this.observer?.disconnect(); this.watch?.disconnect(); clearInterval(this.timer); for (const [name, f] of this.keep) this.model.off(name, f); if (this.received) this.model.off("msg:custom", this.received); }
  listen(key, f) { this.model.on("change:" + key, f); this.keep.push(["change:" + key, f]); }
  get(key) { return this.model.get(key); }
  set(key, value) {                           // the picture at once; ipywidgets holds messages back while the kernel is busy, and must know of every change or an echo would undo it
    this.model.set(key, value); this.model.save_changes();
  }
  mean(term, words) { if (words) this.meaning.append(h("dt", {}, term), h("dd", {}, words)); }
  tell(text) { this.state.textContent = text || ""; }
  tip(text, e) {
    this.tooltip.hidden = !text;
    if (!text) return;
    this.tooltip.textContent = text;
    const r = this.root.getBoundingClientRect(), w = this.tooltip.offsetWidth;
    this.tooltip.style.left = Math.max(0, Math.min(e.clientX - r.left + 14, r.width - w)) + "px";
    this.tooltip.style.top = e.clientY - r.top + 16 + "px";
  }
  select(label, key, options, help = "") {    // options: [value, text, there]; help: what pointing at it says
    const away = "Not on this page: open the explorer in JupyterLab.";
    const s = h("select", {"aria-label": label, onchange: () => this.set(key, options[s.selectedIndex][0])}, ...options.map(([v, t, there = true]) => h("option", {value: String(v), disabled: !there, title: there ? "" : away}, t)));
    this.mean(label, help);
    if (options.some(([, , there = true]) => !there)) help += (help ? " " : "") + "Grey: not on this page, but in JupyterLab.";
    const show = () => { s.selectedIndex = options.findIndex(([v]) => v === this.get(key)); };
    show(); this.listen(key, show);
    if (help) s.title = help;
    this.controls.append(h("label", {title: help}, label, s));
    return s;
  }
  choice(label, key, options, help = "") {    // like select, for the few that should be seen at once
    const name = `ncib-${key}-${++App.count}`, buttons = options.map(([v, , there = true]) => h("input", {type: "radio", name, value: v, disabled: !there, onchange: () => this.set(key, v)}));
    const show = () => buttons.forEach((b) => { b.checked = b.value === this.get(key); });
    show(); this.listen(key, show); this.mean(label, help);
    const title = ([, , there = true, why = ""]) => there ? help : `${help}${help ? " " : ""}${why}`;
    this.controls.append(h("div", {class: "ncib-choice", role: "radiogroup", "aria-label": label}, h("span", {"aria-hidden": "true"}, label), h("div", {}, ...options.map((o, i) => h("label", {title: title(o)}, buttons[i], h("span", {}, o[1]))))));
  }
  layers(there) {                             // the switch between the layers of a pair; there: whether that at a position can be shown
    const names = this.get("layers"), own = names.every((l) => OWN_LAYERS.includes(l)), away = this.live ? "Not recorded in these runs." : "Not on this page: open the explorer in JupyterLab.";
    const options = (own ? OWN_LAYERS : names).map((l) => [l, l, names.includes(l) && there(names.indexOf(l)), away]);
    this[options.length > 4 ? "select" : "choice"]("layer", "layer", options, own ? "Backbone: the network's pooled output. Head: the projection head's unit vectors, which the loss sees." : "");
  }
  held(kind) { return `${kind}_${this.get("layers").indexOf(this.get("layer"))}`; }       // names of the packed data: by position, a layer may be called anything
  slider(label, key, list, text) {            // a range over positions in list(), which may change
    const out = h("output", {}), input = h("input", {type: "range", min: 0, step: 1, "aria-label": label});
    const position = () => { const v = this.get(key), values = list(); let best = 0; values.forEach((x, i) => { if (Math.abs(x - v) < Math.abs(values[best] - v)) best = i; }); return best; };
    const show = () => { const i = position(), values = list(), last = values.length - 1; if (+input.max !== last) input.max = last; if (+input.value !== i) input.value = i; out.textContent = text(values[i]); input.setAttribute("aria-valuetext", text(values[i])); };
    const go = (i) => { const values = list(); this.set(key, values[Math.max(0, Math.min(values.length - 1, i))]); };
    input.addEventListener("input", () => go(+input.value));
    input.max = list().length - 1;
    show(); this.listen(key, show);
    const self = {input, out, show, step: (d) => go(position() + d), position, get last() { return list().length - 1; }, go};
    const play = h("button", {type: "button", "aria-label": `play ${label}`, onclick: () => this.play(self, play)}, "▶ play");
    this.sliders.append(h("div", {class: "ncib-slider"}, play, h("label", {}, h("span", {}, label), input), out));
    return self;
  }
  play(slider, button) {
    const running = this.timer;
    clearInterval(this.timer); this.timer = null;
    for (const b of this.sliders.querySelectorAll("button")) b.textContent = "▶ play";
    if (running) return;
    if (slider.position() === slider.last) slider.go(0);
    button.textContent = "❚❚ stop";
    this.timer = setInterval(() => { slider.step(1); if (slider.position() === slider.last) this.play(slider, button); }, slider.last > 40 ? 90 : 700);
  }
  export() {
    const button = (text, label, f) => this.buttons.append(h("button", {type: "button", "aria-label": label, onclick: f}, text));
    if (this.live) for (const kind of ["png", "pdf"]) button(`figure as ${kind.toUpperCase()}`, `export the current figure as ${kind.toUpperCase()}`, () => {
      this.tell(`drawing the ${kind.toUpperCase()} …`);
      this.waiting = setTimeout(() => this.tell("No kernel has answered: figures are drawn by the kernel, run the cell again."), 20000);
      this.model.send({type: "figure", format: kind});
    });
    button("table as CSV", "export the table as CSV", () => download(`${this.name}.csv`, new Blob([this.csv()], {type: "text/csv"})));
  }
  receive(message, buffers) {
    if (message.type !== "figure") return;
    clearTimeout(this.waiting);
    if (message.error) { this.tell(message.error); return; }
    this.tell(`The figure is in ${message.name}.`);
    download(message.name, new Blob([buffers[0]], {type: message.format === "pdf" ? "application/pdf" : "image/png"}));
  }
  draw() {                                    // all are measured before the first is changed: the browser lays the page out once
    const places = this.panels.map((p) => p.box.clientWidth);
    this.panels.forEach((p, i) => { if (p.size(places[i])) { p.draw(); p.step(); } });
  }
  step() { for (const p of this.panels) if (p.w >= 60) p.step(); this.say(); }
  add(panel) { this.panels.push(panel); this.grid.append(panel.element); return panel; }
}

const rows = (table) => { const q = (v) => v === null || v === undefined ? "" : /[",\n]/.test(v) ? `"${String(v).replaceAll('"', '""')}"` : v; return table.map((r) => r.map(q).join(",")).join("\r\n") + "\r\n"; };

// ---------------------------------------------------------------- checkpoints

class Checkpoints extends App {
  name = "timeline";
  build() {
    this.root.setAttribute("aria-label", "explorer of training checkpoints");
    this.bundles = {};
    const keys = this.get("layers").flatMap((_, i) => [`features_${i}`, `copula_${i}`]);
    for (const key of keys) { this.load(key); this.listen(key, () => { this.load(key); this.refresh(); }); }
    this.listen("chosen", () => { this.load("chosen"); this.refresh(); });
    this.load("chosen");
    const there = (kind, i) => this.live || !!this.bundles[`${kind}_${i}`], some = (kind) => this.get("layers").some((_, i) => there(kind, i));
    this.pairs = Object.values(this.bundles)[0].length;
    const epochs = [...new Set(this.frames.flatMap((f) => f.info.epochs))].sort((a, b) => a - b);
    const parts = ["train", "test"].filter((p) => Object.keys(this.frames[0].arrays).some((k) => k.startsWith(p + "/")));
    this.select("features of", "part", parts.map((p) => [p, p === "train" ? "training images" : parts.length > 1 ? "test images" : "given images"]), "Whose features are seen: of the images that the encoders were trained on, or of new ones.");
    this.select("encoder", "encoder", ["a", "b"].map((s, i) => [s, s.toUpperCase() + (this.pairs === 1 ? ` (${this.info(0).encoders[i].slice(0, 24)})` : "")]), "Which of the two encoders of the pair is X: its features are seen, and compressed. The other one is what the code should tell about.");
    this.given = parts.length < 2;                                  // no training features: everything is of the features given, accuracy held out
    this.layers((i) => there("features", i) || there("copula", i));
    this.select("relevant is", "relevance", Object.entries(RELEVANCE), "What the code should tell about: the other encoder's features of the same image; of another image of its class, so that the class is all they share; or the label itself.");
    this.select("marginals", "copula", [[false, "as they are", some("features")], [true, "normal scores (copula)", some("copula")]], "Normal scores: every feature replaced by the normal quantile of its rank, which is the meta-Gaussian bottleneck.");
    if (this.frames[0].info.classes.length > 4 && this.array(0, "chosen/test/labels")) this.few = this.select("show", "view", [["all", "all classes"], ["chosen", ""]], "All classes on the plane of their simplex, or up to four of them in three dimensions, where a simplex of four fits; at first those that the encoder keeps closest together at the end." + (this.live ? " Choose others below." : "")).options[1];
    this.select("scale", "scale", [["own", "of each checkpoint"], ["common", "of the last checkpoint"]], "The unit of the picture of the classes: the r.m.s. length of the class means.");
    if (this.live && this.frames[0].info.classes.length > 4) this.chooser();
    this.main = this.slider("epoch", "epoch", () => epochs, (e) => `epoch ${e}`);
    this.fewer();
    for (const kind of [Projection, Cosines, Spectrum, Modes, Curves, Sensitivity])
      for (let c = 0; c < this.pairs; c++) this.add(new kind(this, c));
    this.listen("epoch", () => this.step());
    for (const key of ["part", "encoder", "layer", "relevance", "copula", "view", "scale"]) this.listen(key, () => this.refresh());
    this.listen("mode", () => this.step());
    this.say();
  }
  load(key) {
    const data = this.get(key);
    if (data && data.byteLength) { if (key === "chosen") this.chosen = unpack(data); else this.bundles[key] = unpack(data); }
  }
  chooser() {
    const names = this.frames[0].info.classes, boxes = names.map((n, i) => h("input", {type: "checkbox", value: i}));
    const apply = h("button", {type: "button", onclick: () => {
      const chosen = boxes.filter((b) => b.checked).map((b) => +b.value);
      if (chosen.length < 2 || chosen.length > 4) { this.tell("Choose two to four classes; four are shown in three dimensions."); return; }
      this.set("classes", chosen); this.set("view", "chosen");
    }}, "show these");
    const tick = () => { const chosen = this.get("classes"); boxes.forEach((b, i) => { b.checked = chosen.includes(i); }); };
    tick(); this.listen("classes", tick);
    this.controls.append(h("details", {class: "ncib-chooser"}, h("summary", {}, "choose classes"), h("div", {}, ...names.map((n, i) => h("label", {}, boxes[i], n)), apply)));
  }
  get frames() {                              // what was chosen; while the kernel computes it, what was there before
    const now = this.held(this.get("copula") ? "copula" : "features");
    if (this.bundles[now]) this.shown = now;
    return this.bundles[this.shown ||= Object.keys(this.bundles)[0]];
  }
  fewer() { if (this.few) { const names = this.classes(0, "chosen").map((c) => this.info(0).classes[c]); this.few.textContent = `only ${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`; } }
  refresh() { this.frames; this.fewer(); this.draw(); this.say(); }
  info(c) { return this.frames[c].info; }
  index(c) { const e = this.info(c).epochs, now = this.get("epoch"); let i = 0; e.forEach((v, j) => { if (v <= now) i = j; }); return i; }
  array(c, name) {
    if (name.startsWith("chosen/") && this.chosen && this.chosen[c].info.layer === this.info(c).layer) return this.chosen[c].arrays[name];
    return this.frames[c].arrays[name] || this.bundles[`features_${this.get("layers").indexOf(this.info(c).layer)}`]?.[c].arrays[name];
  }
  classes(c, view) { return view === "chosen" ? (this.chosen && this.chosen[c].info.layer === this.info(c).layer ? this.chosen : this.frames)[c].info.chosen : this.info(c).classes.map((_, i) => i); }
  mode(c, name) { return this.array(c, `${this.get("part")}/${this.get("encoder")}/${this.get("relevance")}/${name}`); }
  currentMode(c) { return Math.max(1, Math.min(this.get("mode"), this.mode(c, "excess").shape[1])); }
  title(c, text) { const n = this.info(c).name; return n ? `${n}: ${text}` : text; }
  column(c, name) { return this.info(c).table[name]; }
  say() {
    const say = (c) => {
      const i = this.index(c), part = this.get("part"), side = this.get("encoder"), k1 = this.info(c).classes.length - 1;
      const behind = this.mode(c, "gap").values[i];
      return `${this.title(c, `epoch ${this.info(c).epochs[i]}`)}, encoder ${side.toUpperCase()} (${this.info(c).encoders[+(side === "b")]}): ${this.given ? "held-out" : "test"} accuracy ${percent(this.column(c, `test_accuracy_${side}`)[i])}, NC1 ${number(this.column(c, `${part}_nc1_${side}`)[i])} (${this.given ? "given features" : part}), `
        + `${this.mode(c, "count").values[i]} transitions (K−1 = ${k1}), gap behind mode ${k1} ×${number(behind)}`;
    };
    this.said.replaceChildren(...Array.from({length: this.pairs}, (_, c) => h("span", {}, ...explained(say(c) + ". "))));
  }
  csv() {
    const first = this.info(0), many = this.pairs > 1, names = Object.keys(first.table);
    const table = [[...(many ? ["pair"] : []), ...names]];
    for (let c = 0; c < this.pairs; c++) this.info(c).epochs.forEach((_, i) => table.push([...(many ? [this.info(c).name] : []), ...names.map((n) => this.column(c, n)?.[i])]));
    return rows(table);
  }
}

class Projection extends Panel {
  constructor(app, c) {
    super(app, "", {ratio: .8, most: 400, canvas: true}); this.c = c;
    this.turn = -.5; this.tilt = .35;
    const range = (label, key, low, high) => h("label", {}, label, h("input", {type: "range", min: low, max: high, step: .02, value: this[key], oninput: (e) => { this[key] = +e.target.value; this.outline(); this.step(); }}));
    this.rotation = h("div", {class: "ncib-rotation", hidden: true}, range("turn", "turn", -3.14, 3.14), range("tilt", "tilt", -1.57, 1.57));
    this.element.insertBefore(this.rotation, this.note);
    this.box.addEventListener("pointerdown", (e) => { if (this.dims === 3) { this.grip = [e.clientX, e.clientY, this.turn, this.tilt]; this.box.setPointerCapture(e.pointerId); } });
    this.box.addEventListener("pointerup", () => { this.grip = null; });
    this.box.addEventListener("pointermove", (e) => { if (this.grip) { const [x, y, a, b] = this.grip; this.turn = a + (e.clientX - x) / 120; this.tilt = Math.max(-1.57, Math.min(1.57, b + (e.clientY - y) / 120)); this.outline(); this.step(); } });
  }
  array(name) { return this.app.array(this.c, `${this.prefix}${this.app.get("part")}/${name}`); }
  own(name) { return this.array(`${this.app.get("encoder")}/${name}`); }
  draw() {
    const app = this.app, many = app.info(this.c).classes.length > 4 && app.array(this.c, "chosen/test/labels");
    this.prefix = many && app.get("view") === "chosen" ? "chosen/" : "";
    this.shown = app.classes(this.c, this.prefix ? "chosen" : "all");
    this.labels = this.array("labels").values; this.unit = this.own("unit").values;
    this.dims = this.own("means").shape[2];
    this.rotation.hidden = this.dims !== 3;
    this.box.style.touchAction = this.dims === 3 ? "none" : "";
    const who = this.prefix ? "Classes " + this.shown.map((c) => app.info(this.c).classes[c]).join(", ") : "Classes";
    this.title(app.title(this.c, who + (this.dims === 3 ? " in a tetrahedron" : this.dims === 1 ? " on a line (height means nothing)" : " on the simplex")), this.dims === 3 && "drag to turn");
    const points = this.own("points"), n = this.labels.length, last = this.unit.length - 1;
    this.reach = 1.4;
    for (let i = 0; i <= last; i++) {
      const p = at(points, i), r = Float64Array.from({length: n}, (_, j) => { let s = 0; for (let d = 0; d < this.dims; d++) s += p[j * this.dims + d] ** 2; return Math.sqrt(s) * this.zoom(i); });
      this.reach = Math.max(this.reach, this.app.get("scale") === "own" ? Math.min(2.6, quantile(r, .95)) : quantile(r, .98));
    }
    const side = Math.min(this.x1 - this.x0, this.y0 - this.y1), middle = (this.x0 + this.x1) / 2;
    this.x = d3.scaleLinear([-this.reach, this.reach], [middle - side / 2, middle + side / 2]); this.y = d3.scaleLinear([-this.reach, this.reach], [this.y0, this.y0 - side]);
    Object.assign(this, {side, left: middle - side / 2});
    const keep = [this.x0, this.x1, this.y1]; [this.x0, this.x1, this.y1] = [this.left, this.left + side, this.y0 - side];
    const unit = "r.m.s. length of class means = 1" + (app.get("scale") === "own" ? "" : " at the last checkpoint");
    this.axes(this.x, this.y, unit, "");
    [this.x0, this.x1, this.y1] = keep;
    this.frame = this.svg.append("path").attr("class", "ncib-ideal");
    const g = this.svg.append("g");
    this.marks = this.shown.map((c) => { const e = g.append("g").attr("class", "ncib-mean"); e.append("path").attr("d", d3.symbol(shape(c), 90)()).attr("fill", colour(c)); return e; });
    this.name(this.marks, this.shown.map((c) => this.shown.length <= 26 ? app.info(this.c).classes[c] : null));
    this.outline();
  }
  zoom(i) { return this.app.get("scale") === "own" ? 1 : this.unit[i] / this.unit[this.unit.length - 1]; }
  place(v, j) {                               // two coordinates of row j
    if (this.dims === 2) return [v[2 * j], v[2 * j + 1]];
    if (this.dims === 1) return [v[j], 0];
    const [x, y, z] = [v[3 * j], v[3 * j + 1], v[3 * j + 2]], ca = Math.cos(this.turn), sa = Math.sin(this.turn), cb = Math.cos(this.tilt), sb = Math.sin(this.tilt);
    return [ca * x + sa * z, cb * y - sb * (ca * z - sa * x)];
  }
  outline() {                                 // where a simplex ETF would be
    const k = this.shown.length, s = 1 / Math.sqrt(3);
    const corners = this.dims === 3 ? [s, s, s, s, -s, -s, -s, s, -s, -s, -s, s] : this.dims === 1 ? [-1, 1] : this.shown.flatMap((_, j) => [Math.cos(Math.PI / 2 - 2 * Math.PI * j / k), Math.sin(Math.PI / 2 - 2 * Math.PI * j / k)]);
    const pairs = this.dims === 2 ? this.shown.map((_, j) => [j, (j + 1) % k]) : this.shown.flatMap((_, j) => d3.range(j).map((l) => [j, l]));
    const at = (j) => { const [a, b] = this.place(corners, j); return `${this.x(a)},${this.y(b)}`; };
    this.frame.attr("d", pairs.map(([a, b]) => `M${at(a)}L${at(b)}`).join(""));
  }
  step() {
    const i = this.app.index(this.c), points = at(this.own("points"), i), means = at(this.own("means"), i), zoom = this.zoom(i), ratio = window.devicePixelRatio || 1, n = this.labels.length;
    const pen = this.pen;
    pen.clearRect(0, 0, this.w, this.h);
    this.at = new Float32Array(2 * n);
    let outside = 0;
    for (let j = 0; j < n; j++) {
      const [a, b] = this.place(points, j), x = this.x(a * zoom), y = this.dims === 1 ? this.y(this.reach * 1.6 * ((j * .618034) % 1 - .5)) : this.y(b * zoom);
      this.at[2 * j] = x; this.at[2 * j + 1] = y;
      if (Math.abs(x - this.left - this.side / 2) > this.side / 2 || y < this.y0 - this.side || y > this.y0) { outside++; continue; }
      pen.drawImage(sprite(this.labels[j], ratio), x - 4, y - 4, 8, 8);
    }
    this.means = this.shown.map((_, j) => { const [a, b] = this.place(means, j); return [this.x(a * zoom), this.y(b * zoom)]; });
    this.marks.forEach((m, j) => m.attr("transform", `translate(${this.means[j]})`));
    this.settle(this.means, [this.left + 2, 0, this.w, this.y0 - 2]);
    const sure = this.own("certainty").values[i];
    this.note.textContent = `${n} samples (dots) and class means; dashed: a perfect simplex. Classes that overlap here may lie apart in other directions.${outside ? ` ${outside} samples lie outside.` : ""}${sure < .05 ? " The class means hardly span a plane here: the view is completed from the next checkpoint." : ""}`;
    this.describe(`Projection at epoch ${this.app.info(this.c).epochs[i]}: ` + this.shown.slice(0, 20).map((c, j) => `class ${this.app.info(this.c).classes[c]} at ${number(this.place(means, j)[0] * zoom, 2)}, ${number(this.place(means, j)[1] * zoom, 2)}`).join("; "));
  }
  hover(x, y) {
    if (this.grip) return null;
    const names = this.app.info(this.c).classes, i = this.app.index(this.c), zoom = this.zoom(i);
    const near = this.means.map(([a, b], j) => [Math.hypot(a - x, b - y), j]).sort((a, b) => a[0] - b[0])[0];
    const tell = (values, j) => Array.from(values.subarray(j * this.dims, (j + 1) * this.dims), (v) => number(v * zoom, 2)).join(", ") + " × r.m.s. length of class means";
    if (near[0] < 10) return `class ${names[this.shown[near[1]]]}, mean: ${tell(at(this.own("means"), i), near[1])}`;
    let best = 100, found = -1;
    for (let j = 0; j < this.labels.length; j++) { const d = (this.at[2 * j] - x) ** 2 + (this.at[2 * j + 1] - y) ** 2; if (d < best) { best = d; found = j; } }
    return found < 0 ? null : `class ${names[this.labels[found]]}, sample: ${tell(at(this.own("points"), i), found)}`;
  }
}

const PUOR = Array.from({length: 256}, (_, i) => { const c = d3.interpolatePuOr(1 - i / 255).match(/\d+/g); return c.map(Number); });

class Heat extends Panel {                    // matrices of cells in one canvas, labels around them
  cells(values, k, l, x, y, w, hgt, table, low, high) {
    const s = this.scratch ||= h("canvas"); s.width = l; s.height = k;
    const pen = s.getContext("2d"), image = pen.createImageData(l, k);
    for (let j = 0; j < k * l; j++) {
      if (Number.isNaN(values[j])) continue;                        // stays transparent
      image.data.set(table[Math.max(0, Math.min(255, Math.round(255 * (values[j] - low) / (high - low))))], 4 * j);
      image.data[4 * j + 3] = 255;
    }
    pen.putImageData(image, 0, 0);
    this.pen.imageSmoothingEnabled = false;
    this.pen.clearRect(x, y, w, hgt);
    this.pen.drawImage(s, 0, 0, l, k, x, y, w, hgt);
  }
}

class Cosines extends Heat {
  constructor(app, c) {
    const long = Math.max(...app.info(c).classes.map((n) => n.length)) > 2;
    super(app, "", {ratio: .62, most: 400, canvas: true, margin: {top: 22, right: 10, bottom: 58, left: long ? 54 : 34}}); Object.assign(this, {c, long});
  }
  draw() {
    const app = this.app, names = app.info(this.c).classes, k = names.length;
    this.caption.textContent = app.title(this.c, "Cosines between class means, beside the ideal");
    const gap = 14, pad = this.long && k <= 20 ? 46 : 14;
    this.side = Math.min((this.x1 - this.x0 - gap) / 2, this.y0 - this.y1 - pad);
    this.lefts = [this.x0, this.x0 + this.side + gap];
    const g = this.svg.append("g").attr("class", "ncib-axes"), cell = this.side / k, some = k <= 20 && cell > 8;
    ["class means", "ideal simplex ETF"].forEach((text, j) => {
      g.append("text").attr("x", this.lefts[j] + this.side / 2).attr("y", this.y1 - 7).attr("text-anchor", "middle").text(text);
      g.append("rect").attr("x", this.lefts[j]).attr("y", this.y1).attr("width", this.side).attr("height", this.side).attr("class", "ncib-outline");
      if (some) names.forEach((n, i) => {
        const x = this.lefts[j] + (i + .5) * cell, y = this.y1 + this.side + 11;
        g.append("text").attr("class", "ncib-small").attr("transform", this.long ? `translate(${x + 3},${y - 4}) rotate(-60)` : `translate(${x},${y})`).attr("text-anchor", this.long ? "end" : "middle").text(n.slice(0, 8));
        if (!j) g.append("text").attr("class", "ncib-small").attr("x", this.x0 - 4).attr("y", this.y1 + (i + .5) * cell + 3.5).attr("text-anchor", "end").text(n.slice(0, 7));
      });
    });
    const y = this.y1 + this.side + pad + 12, width = Math.min(220, this.x1 - this.x0), x = d3.scaleLinear([-1, 1], [this.x0, this.x0 + width]);
    d3.range(64).forEach((i) => g.append("rect").attr("x", this.x0 + i * width / 64).attr("y", y).attr("width", width / 64 + .6).attr("height", 9).attr("fill", d3.interpolatePuOr(1 - i / 63)));
    g.append("g").attr("transform", `translate(0,${y + 9})`).call(d3.axisBottom(x).ticks(5).tickSizeOuter(0));
    g.append("text").attr("x", this.x0 + width + 10).attr("y", y + 9).text("cosine");
    this.ideal = Float32Array.from({length: k * k}, (_, i) => i % (k + 1) ? -1 / (k - 1) : 1);
    this.k = k;
    this.cells(this.ideal, k, k, this.lefts[1], this.y1, this.side, this.side, PUOR, -1, 1);
  }
  now() { return at(this.app.array(this.c, `${this.app.get("part")}/${this.app.get("encoder")}/cosines`), this.app.index(this.c)); }
  step() {
    const c = this.now(), k = this.k;
    this.cells(c, k, k, this.lefts[0], this.y1, this.side, this.side, PUOR, -1, 1);
    let far = 0;
    for (let i = 0; i < k * k; i++) if (i % (k + 1)) far += Math.abs(c[i] + 1 / (k - 1)) / (k * (k - 1));
    this.note.textContent = `Mean distance of the cosines from −1/(K−1) = ${number(-1 / (k - 1))}: ${number(far)}.`;
    this.describe("Matrix of cosines between class means beside that of an ideal simplex. " + this.note.textContent);
  }
  hover(x, y) {
    const which = x >= this.lefts[1] ? 1 : 0, i = Math.floor((y - this.y1) / this.side * this.k), j = Math.floor((x - this.lefts[which]) / this.side * this.k), names = this.app.info(this.c).classes;
    if (i < 0 || j < 0 || i >= this.k || j >= this.k) return null;
    return `classes ${names[i]} and ${names[j]}: cosine ${number((which ? this.ideal : this.now())[i * this.k + j])}${which ? " in a simplex" : `, ideal ${number(this.ideal[i * this.k + j])}`}`;
  }
}

class Spectrum extends Panel {
  constructor(app, c) {
    super(app, ""); this.c = c;
    this.steer({now: () => app.currentMode(c) - 1, last: () => app.mode(c, "excess").shape[1] - 1, go: (i) => app.set("mode", i + 1), text: () => this.say(app.currentMode(c) - 1)});
  }
  draw() {
    const app = this.app, all = d3.range(app.pairs).flatMap((c) => finite(app.mode(c, "excess").values).filter((v) => v > 0)), thresholds = d3.range(app.pairs).flatMap((c) => finite(app.mode(c, "threshold").values));
    this.m = Math.max(...d3.range(app.pairs).map((c) => app.mode(c, "excess").shape[1])); this.k1 = app.info(this.c).classes.length - 1;
    this.caption.textContent = app.title(this.c, "Critical β: when a mode enters");
    const logs = [...all, ...thresholds].map(Math.log10), low = d3.min(logs) ?? -1, high = d3.max(logs) ?? 1, pad = .06 * (high - low) + .05;
    this.x = d3.scaleLinear([.4, this.m + .6], [this.x0, this.x1]); this.y = d3.scaleLinear([low - pad, high + pad], [this.y0, this.y1]);
    this.axes(this.x, this.y, "mode of the bottleneck", "log₁₀(β_c − 1)");
    this.svg.select(".ncib-axes g").call(d3.axisBottom(this.x).ticks(Math.min(this.m, Math.floor((this.x1 - this.x0) / 40))).tickFormat(d3.format("d")).tickSizeOuter(0));
    this.gap = this.svg.append("rect").attr("fill", ORANGE).attr("opacity", .35);
    this.gapText = this.svg.append("text").attr("class", "ncib-label");
    this.chance = this.svg.append("line").attr("class", "ncib-chance"); this.chanceText = this.svg.append("text").attr("class", "ncib-small").attr("text-anchor", "end").attr("x", this.x1).text("chance level");
    this.ring = this.svg.append("circle").attr("class", "ncib-ring").attr("r", 9);
    this.dots = d3.range(this.m).map((i) => this.svg.append("circle").attr("r", this.m > 60 ? 2.5 : 4.5).attr("class", i < this.k1 ? "ncib-mode" : "ncib-mode ncib-further").attr("cx", this.x(i + 1)));
  }
  step() {
    const app = this.app, t = app.index(this.c), e = at(app.mode(this.c, "excess"), t), y = (v) => this.y(Math.log10(v)), there = (v) => v > 0 && Number.isFinite(v);
    this.places = this.dots.map((d, i) => { const ok = there(e[i]); d.attr("visibility", ok ? null : "hidden"); if (ok) d.attr("cy", y(e[i])); return ok ? [this.x(i + 1), y(e[i])] : null; });
    const k1 = this.k1, threshold = app.mode(this.c, "threshold").values[t], next = there(e[k1]) ? e[k1] : there(threshold) && threshold > e[k1 - 1] ? threshold : NaN, gap = app.mode(this.c, "gap").values[t];
    const open = there(e[k1 - 1]) && there(next);
    this.gap.attr("visibility", open ? null : "hidden"); this.gapText.attr("visibility", open ? null : "hidden");
    if (open) {
      const left = this.x(k1), right = this.x(Math.min(k1 + 1, this.m + .6));
      this.gap.attr("x", left).attr("width", right - left).attr("y", y(next)).attr("height", Math.max(0, y(e[k1 - 1]) - y(next)));
      const inside = right + 120 < this.x1;
      this.gapText.attr("x", inside ? right + 6 : left - 6).attr("text-anchor", inside ? "start" : "end").attr("y", Math.min(this.y0 - 4, (y(next) + y(e[k1 - 1])) / 2 + (inside ? 14 : -14))).text(`gap ×${number(gap)}`);
    }
    this.chance.attr("visibility", there(threshold) ? null : "hidden"); this.chanceText.attr("visibility", there(threshold) ? null : "hidden");
    if (there(threshold)) { this.chance.attr("x1", this.x0).attr("x2", this.x1).attr("y1", y(threshold)).attr("y2", y(threshold)); this.chanceText.attr("y", y(threshold) - 4); }
    const mode = app.currentMode(this.c), place = this.places[mode - 1];
    this.ring.attr("visibility", place ? null : "hidden"); if (place) this.ring.attr("cx", place[0]).attr("cy", place[1]);
    this.note.textContent = `Filled: modes 1 to ${k1} = K−1${this.m > k1 ? "; open: further modes" : ""}. Click a mode, or go there with the arrow keys, to see which classes it separates.`;
    this.describe(`Critical betas: mode 1 at β − 1 = ${number(e[0])}, mode ${k1} at ${number(e[k1 - 1])}, gap behind it a factor of ${number(gap)}`);
  }
  near(x, y) { let best = 324, found = null; this.places.forEach((p, i) => { if (p) { const d = (p[0] - x) ** 2 + (p[1] - y) ** 2; if (d < best) { best = d; found = i; } } }); return found; }
  hover(x, y) { const i = this.near(x, y); return i === null ? null : this.say(i); }
  say(i) { const e = at(this.app.mode(this.c, "excess"), this.app.index(this.c))[i]; return `mode ${i + 1}: β_c − 1 = ${number(e)}, canonical correlation ρ = ${number(1 / Math.sqrt(1 + e), 4)}`; }
  click(x, y) { const i = this.near(x, y); if (i !== null) this.app.set("mode", i + 1); }
}

class Modes extends Panel {
  constructor(app, c) {
    super(app, ""); this.c = c;
    this.input = h("input", {type: "number", min: 1, value: app.get("mode"), oninput: () => { const v = Math.round(+this.input.value); if (v >= 1) app.set("mode", v); }});
    this.words = h("span");
    this.caption.append(this.words, h("label", {}, "mode ", this.input));
  }
  draw() {
    const app = this.app, names = app.info(this.c).classes, k = names.length;
    this.words.textContent = app.title(this.c, "Classes separated by");
    this.input.max = app.mode(this.c, "excess").shape[1];
    const all = d3.range(app.pairs).map((c) => { const v = finite(app.mode(c, "means").values); return Math.max(d3.max(v) ?? 1, -(d3.min(v) ?? -1)); });
    const reach = Math.max(...all, .5);
    this.x = d3.scaleBand(d3.range(k), [this.x0, this.x1]).padding(k > 40 ? 0 : .2); this.y = d3.scaleLinear([-reach, reach], [this.y0, this.y1]);
    const every = Math.ceil(k / Math.max(4, Math.floor((this.x1 - this.x0) / (9 + 7 * Math.min(8, Math.max(...names.map((n) => n.length)))))));
    this.axes(this.x, this.y, "class", "class mean (s.d.)");
    this.svg.select(".ncib-axes g").call(d3.axisBottom(this.x).tickValues(d3.range(0, k, every)).tickFormat((i) => names[i].slice(0, 8)).tickSizeOuter(0));
    this.bars = names.map((_, c) => this.svg.append("rect").attr("class", k > 40 ? "" : "ncib-mark").attr("x", this.x(c)).attr("width", this.x.bandwidth()).attr("fill", colour(c)));
    this.svg.append("line").attr("class", "ncib-zero").attr("x1", this.x0).attr("x2", this.x1).attr("y1", this.y(0)).attr("y2", this.y(0));
  }
  now() { const a = this.app.mode(this.c, "means"), k = a.shape[2], mode = this.app.currentMode(this.c); return at(a, this.app.index(this.c)).subarray((mode - 1) * k, mode * k); }
  step() {
    const v = this.now(), names = this.app.info(this.c).classes, mode = this.app.currentMode(this.c);
    if (document.activeElement !== this.input) this.input.value = mode;
    this.bars.forEach((b, c) => b.attr("y", Math.min(this.y(v[c]), this.y(0))).attr("height", Math.abs(this.y(v[c]) - this.y(0))));
    const most = Math.max(...v.map(Math.abs)), side = (sign) => names.map((n, c) => [sign * v[c], n]).filter(([x]) => x > most / 2).sort((a, b) => b[0] - a[0]).slice(0, 5).map(([, n]) => n).join(", ");
    const [up, down] = [side(1), side(-1)];
    this.note.textContent = most < .05 ? `Mode ${mode} separates no classes: it is about something that they share.` : `Mode ${mode} separates ${up || "no single class"} from ${down || "the others"}.`;
    this.describe(this.note.textContent);
  }
  hover(x) { const c = Math.floor((x - this.x0) / this.x.step()), names = this.app.info(this.c).classes; return c >= 0 && c < names.length ? `class ${names[c]}, mode ${this.app.currentMode(this.c)}: mean ${number(this.now()[c])} standard deviations` : null; }
}

class Curves extends Panel {
  constructor(app, c) { super(app, "", {ratio: .8, most: 400, margin: {top: 8, right: 14, bottom: 42, left: 62}}); this.c = c; this.follow(app.main); }
  draw() {
    const app = this.app, c = this.c, {epochs, marks} = app.info(c), part = app.get("part"), own = app.get("encoder"), many = d3.range(app.pairs);
    this.title(app.title(c, "Accuracy and NC1"), "click to go there");
    const last = d3.max(many.map((j) => d3.max(app.info(j).epochs))), middle = this.y1 + .52 * (this.y0 - this.y1);
    this.x = d3.scaleSymlog([0, Math.max(1, last)], [this.x0 + 8, this.x1 - 8]).constant(1);
    const ticks = []; for (const e of epochs) if (!ticks.length || this.x(e) - this.x(ticks[ticks.length - 1]) > 26) ticks.push(e);
    const of = (name) => many.flatMap((j) => ["a", "b"].flatMap((s) => app.column(j, `${name}_${s}`))).filter((v) => v !== null && v !== undefined);
    const accuracy = of("test_accuracy").map((v) => 100 * v), nc1 = of(`${part}_nc1`).filter((v) => v > 0), pad = Math.max(.5, .06 * (d3.max(accuracy) - d3.min(accuracy)));
    const top = d3.scaleLinear([d3.min(accuracy) - pad, Math.min(100.5, d3.max(accuracy) + pad)], [middle - 12, this.y1]), low = d3.scaleLog([.8 * d3.min(nc1), 1.25 * d3.max(nc1)], [this.y0, middle + 8]);
    const steps = (...of) => low.ticks(4).filter((v) => of.some((f) => Math.abs(Math.log10(v / f) - Math.round(Math.log10(v / f))) < 1e-9)), powers = steps(1, 2, 5).length > 6 ? steps(1) : steps(1, 2, 5);
    this.axes(this.x, top, "", `${app.given ? "held-out" : "test"} acc. (%)`, {y0: middle - 12, bottom: false}); this.axes(this.x, low, "epoch", `NC1, ${app.given ? "given" : part}`, {y1: middle + 8, xticks: ticks, yticks: powers.length > 1 ? powers : undefined});
    const dashes = [["Dotted", "2 3"], ["Dash-dotted", "7 3 2 3"]];
    Object.values(marks).forEach((epoch, i) => this.svg.append("line").attr("class", "ncib-when").style("stroke-dasharray", dashes[i][1]).attr("x1", this.x(epoch)).attr("x2", this.x(epoch)).attr("y1", this.y1).attr("y2", this.y0));
    for (const s of ["a", "b"]) for (const [name, y, hue, f] of [[`test_accuracy_${s}`, top, BLUE, 100], [`${part}_nc1_${s}`, low, RED, 1]]) {
      const v = app.column(c, name), d = d3.line().defined((i) => v[i] !== null && v[i] > 0).x((i) => this.x(epochs[i])).y((i) => y(f * v[i]));
      this.svg.append("path").attr("class", "ncib-line").attr("stroke", hue).classed("ncib-other", s !== own).attr("d", d(d3.range(epochs.length)));
    }
    this.cursor = this.svg.append("line").attr("class", "ncib-cursor").attr("y1", this.y1).attr("y2", this.y0);
    this.dots = [[`test_accuracy_${own}`, top, BLUE, 100], [`${part}_nc1_${own}`, low, RED, 1]].map(([n, y, hue, f]) => ({v: app.column(c, n), y, f, dot: this.svg.append("circle").attr("r", 4.5).attr("fill", hue)}));
    const when = Object.entries(marks).map(([l, e], i) => ` ${dashes[i][0]}: ${l} at epoch ${e}.`).join("");
    this.note.textContent = `Solid lines: encoder ${own.toUpperCase()}; dashed: the other one.${when}`;
  }
  step() {
    const i = this.app.index(this.c), e = this.app.info(this.c).epochs[i];
    this.cursor.attr("x1", this.x(e)).attr("x2", this.x(e));
    for (const {v, y, f, dot} of this.dots) dot.attr("cx", this.x(e)).attr("cy", v[i] > 0 ? y(f * v[i]) : -99);
    this.describe(`At epoch ${e}: ${this.app.given ? "held-out" : "test"} accuracy ${percent(this.dots[0].v[i])}, NC1 ${number(this.dots[1].v[i])}`);
  }
  near(x) { const {epochs} = this.app.info(this.c); return d3.range(epochs.length).sort((a, b) => Math.abs(this.x(epochs[a]) - x) - Math.abs(this.x(epochs[b]) - x))[0]; }
  hover(x, y) { if (x < this.x0 || y > this.y0) return null; const i = this.near(x); return `epoch ${this.app.info(this.c).epochs[i]}: ${this.app.given ? "held-out" : "test"} accuracy ${percent(this.dots[0].v[i])}, NC1 ${number(this.dots[1].v[i])} (${this.app.given ? "given features" : this.app.get("part")})`; }
  click(x) { this.app.set("epoch", this.app.info(this.c).epochs[this.near(x)]); }
}

class Sensitivity extends Panel {             // small multiples in one row: one estimate each, all on one scale
  constructor(app, c) {
    super(app, "", {margin: {top: 24, right: 10, bottom: 42, left: 62}}); Object.assign(this, {c, wide: true});
    this.element.classList.add("ncib-wide"); this.follow(app.main);
  }
  size() {                                    // two rows where one would be too narrow
    const narrow = this.box.clientWidth < 560;
    this.columns = narrow ? 2 : 4; this.ratio = narrow ? .95 : .2; this.most = narrow ? 400 : 210;
    return super.size();
  }
  draw() {
    const app = this.app, {epochs, estimates, classes} = app.info(this.c), column = (name) => app.column(this.c, name) || [];
    this.title(app.title(this.c, `Sensitivity: how far the first ${classes.length - 1} modes stand apart, by four estimates`), "click to go there");
    this.plots = [];
    if (!estimates.length) return;
    this.low = column("test_twin_separation_low"); this.high = column("test_twin_separation_high");
    const names = [...estimates.map((s) => s.column), "test_twin_separation_low", "test_twin_separation_high"], all = d3.range(app.pairs).flatMap((c) => names.flatMap((n) => app.column(c, n) || [])).filter((v) => v > 0 && Number.isFinite(v)), rows = Math.ceil(4 / this.columns), gap = rows > 1 ? 44 : 0;
    const wide = (this.x1 - this.x0 - 14 * (this.columns - 1)) / this.columns, high = (this.y0 - this.y1 - gap * (rows - 1)) / rows;
    estimates.forEach((s, j) => {
      const x0 = this.x0 + (j % this.columns) * (wide + 14), y1 = this.y1 + Math.floor(j / this.columns) * (high + gap), y0 = y1 + high, values = column(s.column), first = j % this.columns === 0;
      const x = d3.scaleSymlog([0, Math.max(1, d3.max(epochs))], [x0 + 6, x0 + wide - 6]).constant(1), y = d3.scaleLog([.8 * (d3.min(all) ?? 1), 1.25 * (d3.max(all) ?? 10)], [y0, y1]);
      const ticks = []; for (const e of epochs) if (!ticks.length || x(e) - x(ticks[ticks.length - 1]) > 26) ticks.push(e);
      const decades = y.ticks(4).filter((v) => [1, 3].some((f) => Math.abs(Math.log10(v / f) - Math.round(Math.log10(v / f))) < 1e-9)), few = decades.length > 5 ? decades.filter((v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-9) : decades;
      const g = this.svg.append("g").attr("class", "ncib-axes"), last = Math.floor(j / this.columns) === rows - 1;
      g.append("g").attr("transform", `translate(0,${y0})`).call(d3.axisBottom(x).tickValues(ticks).tickFormat((v) => v).tickSizeOuter(0));
      g.append("g").attr("transform", `translate(${x0},0)`).call(d3.axisLeft(y).tickValues(few).tickFormat((v) => first ? "×" + d3.format("~g")(v) : "").tickSizeOuter(0)).selectAll(".tick line").clone().attr("x2", wide).attr("class", "ncib-grid");
      if (last) g.append("text").attr("x", x0 + wide / 2).attr("y", y0 + 34).attr("text-anchor", "middle").text("epoch");
      if (first) g.append("text").attr("transform", `translate(12,${(y0 + y1) / 2}) rotate(-90)`).attr("text-anchor", "middle").text("separation");
      const there = (v) => v !== null && v !== undefined && v > 0, line = (v) => d3.line().defined((i) => there(v[i])).x((i) => x(epochs[i])).y((i) => y(v[i]))(d3.range(epochs.length));
      if (!j && this.low.length) d3.range(epochs.length - 1).filter((i) => [i, i + 1].every((k) => there(this.low[k]) && there(this.high[k]))).forEach((i) => {
        this.svg.append("path").attr("class", "ncib-band").attr("d", `M${x(epochs[i])},${y(this.low[i])}L${x(epochs[i + 1])},${y(this.low[i + 1])}L${x(epochs[i + 1])},${y(this.high[i + 1])}L${x(epochs[i])},${y(this.high[i])}Z`);
      });
      if (!j && this.low.length) for (const edge of [this.low, this.high]) this.svg.append("path").attr("class", "ncib-line ncib-edge").attr("d", line(edge));
      if (j) this.svg.append("path").attr("class", "ncib-line ncib-other").attr("stroke", estimates[0].colour).attr("d", line(column(estimates[0].column)));
      this.svg.append("path").attr("class", "ncib-line").attr("stroke", s.colour).attr("d", line(values));
      this.svg.append("text").attr("class", "ncib-label").attr("x", x0 + 2).attr("y", y1 - 8).text(s.name);
      const cursor = this.svg.append("line").attr("class", "ncib-cursor").attr("y1", y1).attr("y2", y0), dot = this.svg.append("path").attr("d", d3.symbol(SHAPES[j % 4], 64)()).attr("class", "ncib-mark").attr("fill", s.colour);
      this.plots.push({...s, values, x, y, x0, x1: x0 + wide, y0, y1, cursor, dot, there});
    });
  }
  step() {
    const i = this.app.index(this.c), e = this.app.info(this.c).epochs[i];
    if (!this.plots.length) { this.note.textContent = "The separation by other estimates was not measured in this analysis."; this.describe(this.note.textContent); return; }
    for (const {x, y, values, cursor, dot, there} of this.plots) {
      cursor.attr("x1", x(e)).attr("x2", x(e));
      dot.attr("visibility", there(values[i]) ? null : "hidden"); if (there(values[i])) dot.attr("transform", `translate(${x(e)},${y(values[i])})`);
    }
    this.note.textContent = `At epoch ${e}, ${this.app.given ? "given" : "test"} images, twin encoder: ${this.plots.map((p) => this.tell(p, i)).join(", ")}. A factor of β_c − 1 between the first K−1 modes and those behind. Band: 95 % interval; dashed line: the default.`;
    this.describe(this.note.textContent);
  }
  tell(p, i) {
    if (!p.there(p.values[i])) return `${p.name} none`;
    const limits = p === this.plots[0] && p.there(this.low[i]) && p.there(this.high[i]) ? ` (${number(this.low[i])} to ${number(this.high[i])})` : "";
    return `${p.name} ×${number(p.values[i])}${limits}`;
  }
  find(x, y) {                                // the multiple under the pointer, and its nearest checkpoint
    const p = this.plots.find((q) => x >= q.x0 && x <= q.x1 && y >= q.y1 && y <= q.y0), {epochs} = this.app.info(this.c);
    return p ? [p, d3.range(epochs.length).sort((a, b) => Math.abs(p.x(epochs[a]) - x) - Math.abs(p.x(epochs[b]) - x))[0]] : null;
  }
  hover(x, y) { const at = this.find(x, y); return at && `epoch ${this.app.info(this.c).epochs[at[1]]}: ${this.tell(...at)}; ${at[0].label}`; }
  click(x, y) { const at = this.find(x, y); if (at) this.app.set("epoch", this.app.info(this.c).epochs[at[1]]); }
}

// ---------------------------------------------------------------- sweeps over β

const BLUES = Array.from({length: 256}, (_, i) => [255 - 255 * i / 255, 255 - (255 - 114) * i / 255, 255 - (255 - 178) * i / 255].map(Math.round));

class Sweep extends App {
  name = "sweep";
  build() {
    this.root.setAttribute("aria-label", "explorer of a sweep over β");
    this.bundles = {};
    const keys = ["data", ...this.get("layers").map((_, i) => `features_${i}`)];
    for (const key of keys) this.load(key);
    if (this.info.layer) this.layers((i) => this.live || !!this.bundles[`features_${i}`]);
    this.select("information in", "unit", [["nats", "nats"], ["bits", "bits"]], "Unit of information: a nat is 1.44 bits.");
    if (this.info.kind === "gaussian") this.select("code seen", "view", [["plane", "in the plane of the classes", this.info.classes.length > 1], ["modes", "along two modes"]], "From which side the code T is seen: in the plane in which the classes lie nearest to a regular polygon, or along two modes of your choice.");
    if (this.info.epochs?.length > 1) this.epochs = this.slider("epoch", "epoch", () => this.info.epochs, (e) => `epoch ${e}`);
    this.main = this.slider("β", "log_excess", () => this.grid_values, (v) => `β = 1 + ${number(10 ** v)}`);
    if (this.info.layer) {
      this.toCorner = h("button", {type: "button", onclick: () => this.set("log_excess", this.corner.at)}, "★ to the corner");
      this.main.out.after(this.toCorner);
    }
    const kinds = this.info.kind === "gaussian" ? [Growth, Code, Information, Plane] : [Tree, Members, Meaning, Information, Plane];
    for (const kind of kinds) this.add(new kind(this));
    this.listen("log_excess", () => this.step());
    this.listen("epoch", () => { for (const p of this.panels) if (p.w >= 60) p.turn?.(); this.step(); });      // axes are those of all checkpoints, and stay
    for (const key of ["unit", "view", "mode_x", "mode_y"]) this.listen(key, () => this.refresh());
    this.listen("layer", () => this.renew());
    for (const key of keys) this.listen(key, () => { this.load(key); this.renew(); });
    this.say();
  }
  load(key) {
    const data = this.get(key);
    if (data && data.byteLength) { [this.bundles[key]] = unpack(data); this.bundles[key].grid = Array.from(this.bundles[key].arrays.log_excess.values); }
  }
  get bundle() {                              // the layer that was chosen; while the kernel computes it, the one before
    const now = this.held("features");
    if (this.bundles[now]) this.shown = now;
    return this.bundles[this.shown ||= Object.keys(this.bundles)[0]];
  }
  get info() { return this.bundle.info; }
  get arrays() { return this.bundle.arrays; }
  get grid_values() { return this.bundle.grid; }
  renew() { this.main.show(); this.epochs?.show(); this.refresh(); }       // β and checkpoint stay; the grid of β is the layer's own
  refresh() { this.draw(); this.say(); }
  get corner() {                              // where the class modes are in and the next one is about to enter; without `rate` there is none
    const of = (name) => this.arrays[`corner_${name}`]?.values[this.checkpoint] ?? NaN, f = this.factor, u = this.get("unit"), why = this.info.no_corner?.[this.checkpoint];
    const [rate, best, told, at] = [f * of("ixt"), f * of("best"), f * of("iyt"), of("log_excess")];
    if (!Number.isFinite(rate)) return {words: `No corner: ${why}.`};
    const short = `${number(best - told, 2)} ${u} short`, share = percent((best - told) / best), hidden = this.info.corner_hidden[this.checkpoint] ? ", where noise would hide the next mode" : "";
    return {rate, best, told, at, short, share, words: `Corner at I(X;T) = ${number(rate)} ${u}${hidden}: the best code (★) tells ${number(best)} ${u}, the class means' code (▼) ${number(told)}: ${short}, ${share} of the best.`};
  }
  get at() { const v = this.get("log_excess"); let best = 0; this.grid_values.forEach((x, i) => { if (Math.abs(x - v) < Math.abs(this.grid_values[best] - v)) best = i; }); return best; }
  get checkpoint() { const e = this.info.epochs; if (!e) return 0; let i = 0; e.forEach((v, j) => { if (v <= this.get("epoch")) i = j; }); return i; }
  get factor() { return this.get("unit") === "bits" ? 1 / Math.LN2 : 1; }
  row(name) { return at(this.arrays[name], this.checkpoint); }
  on() { const e = 10 ** this.grid_values[this.at]; return this.row("excess").filter((v) => v < e).length; }
  say() {
    const i = this.at, u = this.get("unit"), f = this.factor, both = `I(X;T) = ${number(f * this.row("ixt")[i])} ${u}, I(T;Y) = ${number(f * this.row("iyt")[i])} ${u}`;
    const what = this.info.kind === "gaussian" ? `${this.on()} of ${this.info.total} modes are on` : `${at(this.arrays.weight, i).filter((w) => w > 1e-6).length} clusters of ${this.info.names_x.length} x`;
    if (this.toCorner) { const c = this.corner; this.toCorner.disabled = !c.rate; this.toCorner.title = c.words; }
    this.said.replaceChildren(h("span", {}, ...explained(`${this.info.encoders ? `X: encoder ${this.info.side.toUpperCase()} (${this.info.encoders[+(this.info.side === "b")]}). ` : ""}β = 1 + ${number(10 ** this.grid_values[i])}: ${what}; ${both}.`)), ...(this.info.notes || []).map((n) => h("span", {}, n + ".")));
  }
  csv() {
    const table = [[...(this.info.epochs ? ["epoch"] : []), "log10_beta_minus_1", "beta", "ixt_nats", "iyt_nats"]];
    for (let c = 0; c < this.arrays.ixt.shape[0]; c++) this.grid_values.forEach((v, i) => table.push([...(this.info.epochs ? [this.info.epochs[c]] : []), v, 1 + 10 ** v, at(this.arrays.ixt, c)[i], at(this.arrays.iyt, c)[i]]));
    return rows(table);
  }
}

class OverBeta extends Panel {                // a panel whose abscissa is the slider's
  constructor(app, ...rest) { super(app, ...rest); this.follow(app.main); }
  scale() { const g = this.app.grid_values; this.x = d3.scaleLinear([g[0], g[g.length - 1]], [this.x0, this.x1]); }
  corner() {                                  // where the corner is on the axis, in `own`
    const c = this.app.info.kind === "gaussian" && this.app.corner;
    if (!c || !c.rate) return;
    const x = this.x(c.at), left = x > (this.x0 + this.x1) / 2;
    this.own.append("line").attr("class", "ncib-corner-line").attr("x1", x).attr("x2", x).attr("y1", this.y1).attr("y2", this.y0);
    this.own.append("text").attr("class", "ncib-label").attr("x", x + (left ? -5 : 5)).attr("y", this.y0 - 8).attr("text-anchor", left ? "end" : "start").text("★ corner");
  }
  line() { this.cursor = this.svg.append("line").attr("class", "ncib-cursor").attr("y1", this.y1).attr("y2", this.y0); }
  move() { const x = this.x(this.app.grid_values[this.app.at]); this.cursor.attr("x1", x).attr("x2", x); }
  click(x) { this.app.set("log_excess", this.near(x)); }
  near(x) { const v = this.x.invert(x); return this.app.grid_values.reduce((a, b) => Math.abs(b - v) < Math.abs(a - v) ? b : a); }
}

const dot = (x, y, r = 3.5) => `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`;      // a circle as part of a path

class Growth extends OverBeta {
  constructor(app) { super(app, ""); this.title("Modes switch on at their critical β", "click to go there"); }
  kept(i, e) { return Math.max(0, Math.log(e / this.e[i]) / 2) * this.app.factor; }
  draw() {
    const app = this.app, g = app.grid_values, last = g[g.length - 1], k1 = app.info.k1;
    this.scale();
    const low = d3.min(app.arrays.excess.values.filter((v) => v > 0));
    this.y = d3.scaleLinear([0, Math.max(.5, Math.log(10 ** last / low) / 2 * app.factor)], [this.y0, this.y1]);
    this.axes(this.x, this.y, "log₁₀(β − 1)", `I(X;T) of each mode (${app.get("unit")})`);
    this.own = this.svg.append("g");
    this.line();
    this.dots = this.svg.append("g");
    this.turn();
  }
  turn() {                                    // to another checkpoint: one path for all modes of a colour
    const app = this.app, g = app.grid_values, last = 10 ** g[g.length - 1], k1 = app.info.k1, first = (i) => i < k1 || !k1;
    this.e = app.row("excess");
    this.shown = d3.range(this.e.length).filter((i) => Number.isFinite(this.e[i]) && this.e[i] < last);
    this.groups = [["var(--ncib-muted)", this.shown.filter((i) => !first(i))], ["var(--ncib-strong)", this.shown.filter(first)]].filter(([, modes]) => modes.length);
    this.own.selectAll("*").remove();
    const path = (style, modes, d) => this.own.append("path").attr("class", "ncib-line").attr("stroke", style).attr("d", modes.map((i) => d(this.x(Math.max(g[0], Math.log10(this.e[i]))), i)).join(""));
    for (const [style, modes] of this.groups) {
      path(style, modes, (x, i) => `M${x},${this.y(0)}L${this.x1},${this.y(this.kept(i, last))}`);
      path(style, modes, (x) => `M${x},${this.y0 - 5}V${this.y0 + 5}`);
    }
    this.corner();
    this.dots.selectAll("*").remove();
    this.marks = this.groups.map(([style]) => this.dots.append("path").attr("fill", style));
  }
  step() {
    const app = this.app, v = app.grid_values[app.at], x = this.x(v);
    this.move();
    this.groups.forEach(([, modes], j) => this.marks[j].attr("d", modes.filter((i) => this.e[i] < 10 ** v).map((i) => dot(x, this.y(this.kept(i, 10 ** v)))).join("") || null));
    const k1 = app.info.k1;
    this.note.textContent = `${app.on()} of ${app.info.total} modes are on${k1 ? `; blue: the first K−1 = ${k1}` : ""}. Each gains half a nat for every factor e of β − 1.`;
    this.describe(this.note.textContent);
  }
  hover(x, y) {
    const v = this.x.invert(x), found = this.shown.map((i) => [Math.abs(this.y(this.kept(i, 10 ** v)) - y) + (this.e[i] < 10 ** v ? 0 : Math.abs(this.x(Math.log10(this.e[i])) - x)), i]).sort((a, b) => a[0] - b[0])[0];
    return found && found[0] < 12 ? `mode ${found[1] + 1}: β_c − 1 = ${number(this.e[found[1]])}, ρ = ${number(1 / Math.sqrt(1 + this.e[found[1]]), 4)}` : null;
  }
}

class Code extends Panel {
  constructor(app) {
    super(app, "The code T and its noise", {ratio: .8, most: 400, canvas: true});
    const input = (key) => h("input", {type: "number", min: 1, value: app.get(key), "aria-label": key === "mode_x" ? "mode across" : "mode upwards", oninput: (e) => { const v = Math.round(+e.target.value); if (v >= 1 && v <= app.arrays.excess.shape[1]) app.set(key, v); }});
    this.pick = h("label", {hidden: true}, "modes ", input("mode_x"), " and ", input("mode_y"));
    this.caption.append(this.pick);
  }
  draw() {
    const app = this.app, side = Math.min(this.x1 - this.x0, this.y0 - this.y1), middle = (this.x0 + this.x1) / 2;
    this.pick.hidden = app.get("view") !== "modes";
    Object.assign(this, {side, left: middle - side / 2});
    this.labels = app.arrays.labels.values; this.reach = 0;
    this.turn();
  }
  turn() {                                    // to another checkpoint
    const app = this.app;
    this.variates = app.row("variates"); this.e = app.row("excess"); this.noise = app.arrays.noise.values;
    this.m = this.e.length;
    const axes = app.row("axes"), one = [app.get("mode_x") - 1, app.get("mode_y") - 1];
    this.axis = app.get("view") === "modes" ? [0, 1].map((d) => Float64Array.from({length: this.m}, (_, i) => +(i === one[d]))) : [0, 1].map((d) => Float64Array.from({length: this.m}, (_, i) => axes[2 * i + d]));
  }
  frame() {                                   // axes for the reach that the code has now
    this.svg.selectAll("*").remove();
    const r = this.reach, keep = [this.x0, this.x1, this.y1];
    this.x = d3.scaleLinear([-r, r], [this.left, this.left + this.side]); this.y = d3.scaleLinear([-r, r], [this.y0, this.y0 - this.side]);
    [this.x0, this.x1, this.y1] = [this.left, this.left + this.side, this.y0 - this.side];
    this.axes(this.x, this.y, "T (standard deviations of the noise)", "");
    [this.x0, this.x1, this.y1] = keep;
    this.ellipse = this.svg.append("path").attr("class", "ncib-ideal");
    this.marks = this.app.info.classes.map((name, c) => { const e = this.svg.append("g").attr("class", "ncib-mean"); e.append("path").attr("d", d3.symbol(shape(c), 80)()).attr("fill", colour(c)); return e; });
    this.name(this.marks, this.app.info.classes.map((name, _, all) => all.length > 1 && all.length < 27 ? name : null));
  }
  step() {
    const app = this.app, e = 10 ** app.grid_values[app.at], m = this.m, n = this.labels.length, k = app.info.classes.length;
    const gain = Float64Array.from(this.e, (v) => v < e ? Math.sqrt(e / v - 1) : 0), on = Float64Array.from(this.e, (v) => +(v < e)), [ax, ay] = this.axis;
    const active = d3.range(m).filter((i) => on[i] && (Math.abs(ax[i]) > 1e-9 || Math.abs(ay[i]) > 1e-9)), px = new Float64Array(n), py = new Float64Array(n), sums = d3.range(k).map(() => [0, 0, 0]);
    for (let j = 0; j < n; j++) {
      let x = 0, y = 0;
      for (const i of active) { const t = gain[i] * this.variates[j * m + i], s = t + this.noise[j * m + i]; x += ax[i] * s; y += ay[i] * s; const c = sums[this.labels[j]]; c[0] += ax[i] * t; c[1] += ay[i] * t; }
      px[j] = x; py[j] = y; sums[this.labels[j]][2]++;
    }
    const far = Math.max(quantile(px.map(Math.abs), .99), quantile(py.map(Math.abs), .99)), ladder = [3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500, 1000, 3000, 1e4, 1e5], reach = ladder.find((r) => r >= far * 1.05) || far;
    if (reach !== this.reach) { this.reach = reach; this.frame(); }
    const pen = this.pen, ratio = window.devicePixelRatio || 1;
    pen.clearRect(0, 0, this.w, this.h);
    for (let j = 0; j < n; j++) { const x = this.x(px[j]), y = this.y(py[j]); if (Math.abs(px[j]) < reach && Math.abs(py[j]) < reach) pen.drawImage(sprite(this.labels[j], ratio), x - 4, y - 4, 8, 8); }
    Object.assign(this, {px, py});
    this.means = sums.map(([a, b, c]) => c ? [a / c, b / c] : null);
    this.marks.forEach((g, c) => g.attr("visibility", this.means[c] && k > 1 ? null : "hidden").attr("transform", this.means[c] ? `translate(${this.x(this.means[c][0])},${this.y(this.means[c][1])})` : null));
    this.settle(this.means.map((m) => m && k > 1 ? [this.x(m[0]), this.y(m[1])] : null), [this.left + 2, 0, this.w, this.y0 - 2]);
    let [xx, xy, yy] = [0, 0, 0];             // covariance of the noise in the picture: 1 in every direction only once all modes that span it are on
    for (const i of active) { xx += ax[i] ** 2; xy += ax[i] * ay[i]; yy += ay[i] ** 2; }
    const det = Math.sqrt(Math.max(0, xx * yy - xy * xy)), root = Math.sqrt(xx + yy + 2 * det) || 1;
    this.ellipse.attr("d", d3.line()(d3.range(73).map((i) => { const u = Math.cos(i * Math.PI / 36), v = Math.sin(i * Math.PI / 36); return [this.x(((xx + det) * u + xy * v) / root), this.y((xy * u + (yy + det) * v) / root)]; })));
    const dims = active.length;
    this.note.textContent = `${dims ? `${dims} mode${dims > 1 ? "s" : ""} in the picture` : "No mode is on: the code is empty"}. Dashed: one standard deviation of the noise.${app.info.simulated ? " Samples are drawn from the Gaussian model." : ""}`;
    this.describe(`The code T: ${this.note.textContent}`);
  }
  hover(x, y) {
    const names = this.app.info.classes;
    let best = 120, text = null;
    for (let j = 0; j < this.px.length; j++) { const d = (this.x(this.px[j]) - x) ** 2 + (this.y(this.py[j]) - y) ** 2; if (d < best) { best = d; text = `${names.length > 1 ? `class ${names[this.labels[j]]}, ` : ""}sample: T = ${number(this.px[j])}, ${number(this.py[j])} standard deviations of the noise`; } }
    return text;
  }
}

class Information extends OverBeta {
  constructor(app) { super(app, "What the code keeps and what it tells"); }
  draw() {
    const app = this.app, f = app.factor; this.scale();
    this.y = d3.scaleLinear([0, Math.max(1e-6, d3.max(app.arrays.ixt.values) * f) * 1.05], [this.y0, this.y1]);
    this.axes(this.x, this.y, "log₁₀(β − 1)", `information (${app.get("unit")})`);
    this.own = this.svg.append("g");
    ["I(X;T)", "I(T;Y)"].forEach((t, j) => this.svg.append("text").attr("class", "ncib-label").attr("x", this.x0 + 10).attr("y", this.y1 + 14 + 17 * j).attr("style", `fill:${[BLUE, RED][j]}`).text(`${["●", "■"][j]} ${t}`));
    this.line();
    this.dots = [BLUE, RED].map((c, j) => this.svg.append("path").attr("d", d3.symbol([d3.symbolCircle, d3.symbolSquare][j], 70)()).attr("fill", c));
    this.turn();
  }
  turn() {                                    // to another checkpoint
    const app = this.app, f = app.factor;
    this.v = ["ixt", "iyt"].map((n) => Array.from(app.row(n), (v) => v * f));
    this.own.selectAll("*").remove();
    this.v.forEach((v, j) => this.own.append("path").attr("class", "ncib-line").attr("stroke", [BLUE, RED][j]).attr("d", d3.line().x((i) => this.x(app.grid_values[i])).y((i) => this.y(v[i]))(d3.range(v.length))));
    this.corner();
  }
  step() {
    const i = this.app.at; this.move();
    this.dots.forEach((d, j) => d.attr("transform", `translate(${this.x(this.app.grid_values[i])},${this.y(this.v[j][i])})`));
    const [a, b] = this.v, u = this.app.get("unit");
    this.note.textContent = a[i] > 0 ? `${percent(b[i] / a[i])} of what the code keeps is about Y.` : "Nothing is kept yet.";
    this.describe(`I(X;T) ${number(a[i])} ${u}, I(T;Y) ${number(b[i])} ${u}`);
  }
  hover(x) { const i = this.app.grid_values.indexOf(this.near(x)), u = this.app.get("unit"); return x < this.x0 ? null : `β = 1 + ${number(10 ** this.app.grid_values[i])}: I(X;T) = ${number(this.v[0][i])} ${u}, I(T;Y) = ${number(this.v[1][i])} ${u}`; }
}

const STAR = d3.line()(d3.range(11).map((i) => { const r = i % 2 ? 4 : 10, t = i * Math.PI / 5; return [r * Math.sin(t), -r * Math.cos(t)]; })), DOWN = "M-6,-5L6,-5L0,6Z";

class Plane extends Panel {
  constructor(app) { super(app, "Information plane"); }
  corner() {                                  // on the curve, and enlarged where the plane is empty
    const c = this.app.corner, {x, y} = this;
    if (!c.rate) { this.own.append("text").attr("class", "ncib-label").attr("x", this.x1 - 4).attr("y", this.y0 - 10).attr("text-anchor", "end").text("no corner (see below)"); return; }
    const mark = (x, y) => {
      this.own.append("line").attr("class", "ncib-cursor").attr("x1", x(c.rate)).attr("x2", x(c.rate)).attr("y1", y(c.told)).attr("y2", y(c.best));
      this.own.append("path").attr("class", "ncib-down").attr("d", DOWN).attr("transform", `translate(${x(c.rate)},${y(c.told)})`);
      this.own.append("path").attr("class", "ncib-star").attr("d", STAR).attr("transform", `translate(${x(c.rate)},${y(c.best)})`);
    };
    const wide = .5 * (this.x1 - this.x0), high = .44 * (this.y0 - this.y1), left = this.x1 - wide - 2, top = this.y0 - high - 6, reach = Math.max(c.best - c.told, .01 * c.best);
    const nx = d3.scaleLinear([c.rate - .5 * reach, c.rate + 2.5 * reach], [left, left + wide]), ny = d3.scaleLinear([c.best - 1.5 * reach, c.best + .9 * reach], [top + high, top]);
    this.own.append("line").attr("class", "ncib-when").attr("x1", x(c.rate)).attr("y1", y(c.best)).attr("x2", left).attr("y2", top);
    this.own.append("rect").attr("class", "ncib-inset").attr("x", left).attr("y", top).attr("width", wide).attr("height", high);
    const [a, b] = this.v, within = d3.range(61).map((i) => nx.domain()[0] + i / 60 * (nx.domain()[1] - nx.domain()[0])).map((r) => { const k = Math.max(1, Math.min(a.length - 1, a.findIndex((v) => v >= r))), s = (r - a[k - 1]) / (a[k] - a[k - 1] || 1); return [r, b[k - 1] + s * (b[k] - b[k - 1])]; });
    this.own.append("path").attr("class", "ncib-line").attr("stroke", "var(--ncib-strong)").attr("d", d3.line().defined(([, v]) => v >= ny.domain()[0] && v <= ny.domain()[1]).x(([r]) => nx(r)).y(([, v]) => ny(v))(within));
    mark(x, y); mark(nx, ny);
    [c.short, `(${c.share})`].forEach((t, j) => this.own.append("text").attr("class", "ncib-label ncib-short").attr("x", nx(c.rate) + 12).attr("y", (ny(c.best) + ny(c.told)) / 2 + 10 + 15 * j).text(t));
    this.own.append("text").attr("class", "ncib-small").attr("x", left + 5).attr("y", top + 13).text("corner, enlarged");
  }
  draw() {
    const app = this.app, f = app.factor, u = app.get("unit");
    const top = d3.max(app.arrays.iyt.values) * f || 1, wide = d3.max(app.arrays.ixt.values) * f || 1;
    this.x = d3.scaleLinear([0, wide * 1.03], [this.x0, this.x1]); this.y = d3.scaleLinear([0, top * 1.08], [this.y0, this.y1]);
    this.axes(this.x, this.y, `I(X;T) (${u})`, `I(T;Y) (${u})`);
    const most = Math.min(wide, top * 1.08);
    this.svg.append("line").attr("class", "ncib-when").attr("x1", this.x(0)).attr("y1", this.y(0)).attr("x2", this.x(most)).attr("y2", this.y(most));
    if (app.info.kind !== "gaussian") this.svg.append("line").attr("class", "ncib-chance").attr("x1", this.x0).attr("x2", this.x1).attr("y1", this.y(app.info.information * f)).attr("y2", this.y(app.info.information * f));
    this.own = this.svg.append("g");
    this.tangent = this.svg.append("line").attr("class", "ncib-cursor"); this.dot = this.svg.append("circle").attr("r", 6).attr("fill", RED);
    this.turn();
  }
  turn() {                                    // to another checkpoint
    const app = this.app, f = app.factor, wide = this.x.domain()[1] / 1.03;
    this.v = ["ixt", "iyt"].map((n) => Array.from(app.row(n), (v) => v * f));
    this.own.selectAll("*").remove();
    this.own.append("path").attr("class", "ncib-line").attr("stroke", "var(--ncib-strong)").attr("d", d3.line().x((i) => this.x(this.v[0][i])).y((i) => this.y(this.v[1][i]))(d3.range(this.v[0].length)));
    this.enter = [];
    if (app.info.kind !== "gaussian") return;
    const [a, b, e] = ["enter_ixt", "enter_iyt", "excess"].map((n) => app.row(n));
    this.enter = d3.range(e.length).filter((i) => Number.isFinite(e[i]) && a[i] * f <= wide).map((i) => [this.x(a[i] * f), this.y(b[i] * f), i]);
    for (const further of [false, true]) this.own.append("path").attr("class", further ? "ncib-mode ncib-further" : "ncib-mode").attr("d", this.enter.filter(([, , i]) => further === i >= app.info.k1).map(([x, y]) => dot(x, y)).join("") || null);
    this.corner();
  }
  step() {
    const app = this.app, i = app.at, [a, b] = [this.v[0][i], this.v[1][i]], slope = 1 / (1 + 10 ** app.grid_values[i]), run = .12 * this.x.domain()[1];
    this.dot.attr("cx", this.x(a)).attr("cy", this.y(b));
    this.tangent.attr("x1", this.x(a - run)).attr("y1", this.y(b - run * slope)).attr("x2", this.x(a + run)).attr("y2", this.y(b + run * slope)).attr("visibility", a > 0 ? null : "hidden");
    this.note.textContent = `Line: slope 1/β. Dotted: all that is kept is about Y.${app.info.kind === "gaussian" ? ` Circles: a mode enters${app.info.k1 ? " (filled: the first K−1)" : ""}. ${app.corner.words}` : " Dashed: all that X tells about Y."}`;
    this.describe(`Information plane: I(X;T) ${number(a)}, I(T;Y) ${number(b)} ${app.get("unit")}.${app.info.kind === "gaussian" ? ` ${app.corner.words}` : ""}`);
  }
  hover(x, y) { const m = this.enter.find(([a, b]) => Math.hypot(a - x, b - y) < 7); return m ? `mode ${m[2] + 1} enters at I(X;T) = ${number(this.x.invert(m[0]))}, I(T;Y) = ${number(this.y.invert(m[1]))} ${this.app.get("unit")}` : null; }
}

class Tree extends OverBeta {
  constructor(app) { super(app, "", {ratio: .8, most: 400, canvas: true, margin: {top: 8, right: 12, bottom: 42, left: 62}}); this.title("Clusters split along β", "click to go there"); }
  draw() {
    const app = this.app, hard = app.arrays.hard, [g, k] = hard.shape; this.scale();
    this.rows = k; this.order = app.arrays.order.values;
    this.y = d3.scaleLinear([0, k], [this.y1, this.y0]);
    const pen = this.pen, edge = (low, high, n) => d3.range(n + 1).map((i) => Math.round(low + (high - low) * i / n)), xs = edge(this.x0, this.x1, g), ys = edge(this.y1, this.y0, k);
    pen.clearRect(0, 0, this.w, this.h);
    for (let i = 0; i < g; i++) for (let j = 0; j < k; j++) {
      const c = hard.values[i * k + j];
      pen.fillStyle = colour(c); pen.globalAlpha = 1 - .3 * (Math.floor(c / 7) % 3);      // what repeats a colour is paler
      pen.fillRect(xs[i], ys[j], xs[i + 1] - xs[i], ys[j + 1] - ys[j] - (k > 60 ? 0 : 1));
    }
    pen.globalAlpha = 1;
    this.axes(this.x, this.y, "log₁₀(β − 1)", "x, ordered by the splits", {yticks: []});
    if (k <= 26) d3.range(k).forEach((j) => this.svg.append("text").attr("class", "ncib-small").attr("x", this.x0 - 5).attr("y", this.y(j + .5) + 4).attr("text-anchor", "end").text(app.info.names_x[this.order[j]].slice(0, 5)));
    this.line();
  }
  step() { this.move(); this.note.textContent = `Colour: the most probable cluster of each x.`; this.describe(`${at(this.app.arrays.weight, this.app.at).filter((w) => w > 1e-6).length} clusters at this β`); }
  hover(x, y) { const j = Math.floor(this.y.invert(y)); if (j < 0 || j >= this.rows || x < this.x0) return null; const i = this.app.grid_values.indexOf(this.near(x)); return `x ${this.app.info.names_x[this.order[j]]} at β = 1 + ${number(10 ** this.app.grid_values[i])}: cluster ${this.app.arrays.hard.values[i * this.rows + j] + 1}`; }
}

class Matrix extends Heat {                   // rows by clusters that are in use
  constructor(app, title, name) { super(app, title, {ratio: .8, most: 400, canvas: true, margin: {top: 8, right: 12, bottom: 42, left: 62}}); this.array = name; }
  draw() {
    const app = this.app, many = (names) => names.length <= 26;
    const names = this.names(), [, n] = [0, names.length];
    this.t = app.arrays.weight.shape[1];
    this.x = d3.scaleBand(d3.range(this.t), [this.x0, this.x1]); this.y = d3.scaleLinear([0, n], [this.y1, this.y0]);
    this.axes(this.x, this.y, "cluster t", this.ylabel, {yticks: []});
    this.svg.select(".ncib-axes g").call(d3.axisBottom(this.x).tickValues(d3.range(0, this.t, Math.ceil(this.t / 14))).tickFormat((v) => v + 1).tickSizeOuter(0));
    if (many(names)) names.forEach((s, j) => this.svg.append("text").attr("class", "ncib-small").attr("x", this.x0 - 5).attr("y", this.y(j + .5) + 4).attr("text-anchor", "end").text(s.slice(0, 7)));
  }
  step() {
    this.now = this.values();
    this.cells(this.now, this.names().length, this.t, this.x0, this.y1, this.x1 - this.x0, this.y0 - this.y1, BLUES, 0, 1);
    this.note.textContent = "White: 0, full blue: 1; empty columns: clusters that are not there yet.";
    this.describe(this.caption.textContent);
  }
  hover(x, y) { const t = Math.floor((x - this.x0) / this.x.step()), j = Math.floor(this.y.invert(y)), names = this.names(); if (t < 0 || t >= this.t || j < 0 || j >= names.length) return null; const v = this.now[j * this.t + t]; return Number.isNaN(v) ? null : this.tell(names[j], t + 1, number(v)); }
}

class Members extends Matrix {
  ylabel = "x, ordered by the splits";
  constructor(app) { super(app, "Which x belong to a cluster: p(t|x)"); }
  names() { return Array.from(this.app.arrays.order.values, (i) => this.app.info.names_x[i]); }
  values() { const w = at(this.app.arrays.weight, this.app.at), e = at(this.app.arrays.encoder, this.app.at); return Float32Array.from(e, (v, j) => w[j % this.t] > 1e-6 ? v : NaN); }
  tell(name, t, v) { return `p(t = ${t} | x = ${name}) = ${v}`; }
}

class Meaning extends Matrix {
  ylabel = "y";
  constructor(app) { super(app, "What a cluster says about y: p(y|t)"); }
  names() { return this.app.info.names_y; }
  values() { const n = this.names().length, w = at(this.app.arrays.weight, this.app.at), d = at(this.app.arrays.decoder, this.app.at); return Float32Array.from({length: n * this.t}, (_, j) => w[j % this.t] > 1e-6 ? d[(j % this.t) * n + Math.floor(j / this.t)] : NaN); }
  tell(name, t, v) { return `p(y = ${name} | t = ${t}) = ${v}`; }
}

// ---------------------------------------------------------------- entry points

const KINDS = {checkpoints: Checkpoints, sweep: Sweep};

function mount(model, el) {
  try { return new KINDS[model.get("kind")](model, el); }
  catch (e) { el.replaceChildren(h("p", {class: "ncib ncib-error", role: "alert"}, `The explorer could not be drawn: ${e.message}`)); console.error(e); return {dispose() {}}; }
}

export async function mountPage(el, state, data) {     // on a page without a kernel: `data` holds base64 of gzip
  const bytes = async (text) => new Uint8Array(await new Response(new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
  for (const [key, text] of Object.entries(data)) state[key] = await bytes(text);
  const page = new Page(state), app = mount(page, el);
  for (const radio of document.querySelectorAll("input[type=radio][name=layer]")) {      // the page's own switch, as the report has one: it and the explorer follow each other
    radio.addEventListener("change", () => page.set("layer", radio.value));
    page.on("change:layer", () => { radio.checked = radio.value === page.get("layer"); });
    if (radio.checked) page.set("layer", radio.value);
  }
  return app;
}

export default {render({model, el}) { const app = mount(model, el); return () => app.dispose(); }};
