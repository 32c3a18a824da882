// The explorer of training checkpoints.
import { App } from "./app.js";
import { Cosines } from "./cosines.js";
import { Curves } from "./curves.js";
import { columnOf, csv, keyOf, lastUpTo, unpack } from "./data.js";
import { h } from "./elements.js";
import { Modes } from "./modes.js";
import { Projection } from "./projection.js";
import { Sensitivity } from "./sensitivity.js";
import { Spectrum } from "./spectrum.js";
import { explained, number, percent, RELEVANCES } from "./words.js";

const ABOUT = {
  part: "Whose features are seen: of the images that the encoders were trained on, or of new ones.",
  encoder: "Which of the two encoders of the pair is X: its features are seen, and compressed. " +
    "The other one is what the code should tell about.",
  relevance:
    "What the code should tell about: the features that the twin, the other encoder, has of the same image; those " +
    "of another image of its class, so that the class is all they share; or the label itself.",
  copula:
    "Normal scores: every feature replaced by the normal quantile of its rank, which is the meta-Gaussian bottleneck.",
  view:
    "All classes on the plane of their simplex, or up to four of them in three dimensions, where a simplex of four " +
    "fits; at first those that the encoder keeps closest together at the end.",
  scale: "The unit of the picture of the classes: the r.m.s. length of the class means.",
};

/** One or more pairs of encoders: `c` is the position of a pair. */
export class Checkpoints extends App {
  name = "timeline";
  build() {
    this.root.setAttribute("aria-label", "explorer of training checkpoints");
    this.receiveData();
    this.pairs = Object.values(this.bundles)[0].length;
    this.many = this.info(0).classes.length > 4;
    this.parts = ["train", "test"].filter((p) => Object.keys(this.frames[0].arrays).some((k) => k.startsWith(p + "/")));
    this.given = this.parts.length < 2; // no training features: everything is of the features given, accuracy held out
    this.chooseFeatures();
    this.chooseView();
    const epochs = [...new Set(this.frames.flatMap((f) => f.info.epochs))].sort((a, b) => a - b);
    this.main = this.slider("epoch", "epoch", () => epochs, (e) => `epoch ${e}`);
    this.nameChosen();
    for (const kind of [Projection, Cosines, Spectrum, Modes, Curves, Sensitivity]) {
      for (let c = 0; c < this.pairs; c++) this.add(new kind(this, c));
    }
    for (const key of ["epoch", "mode"]) this.listen(key, () => this.step());
    const others = ["part", "encoder", "layer", "relevance", "copula", "view", "scale"];
    for (const key of others) this.listen(key, () => this.refresh());
    this.say();
  }

  // What is held

  /** Unpacks what is there, and whatever comes later. */
  receiveData() {
    this.bundles = {};
    const keys = this.get("layers").flatMap((_, i) => [`features_${i}`, `copula_${i}`]);
    for (const key of keys) {
      this.load(key);
      this.listen(key, () => {
        this.load(key);
        this.refresh();
      });
    }
    this.listen("chosen", () => {
      this.load("chosen");
      this.refresh();
    });
    this.load("chosen");
  }
  load(key) {
    const data = this.get(key);
    if (!data || !data.byteLength) return;
    if (key === "chosen") this.chosen = unpack(data);
    else this.bundles[key] = unpack(data);
  }
  /** What was chosen; while the kernel computes it, what was there before. */
  get frames() {
    const now = this.held(this.get("copula") ? "copula" : "features");
    if (this.bundles[now]) this.shown = now;
    return this.bundles[this.shown ||= Object.keys(this.bundles)[0]];
  }
  info(c) {
    return this.frames[c].info;
  }
  /** Position of the last checkpoint up to the epoch that was chosen. */
  index(c) {
    return lastUpTo(this.info(c).epochs, this.get("epoch"));
  }
  /** The classes that somebody chose, if they are of the layer that is shown. */
  chosenOf(c) {
    return this.chosen && this.chosen[c].info.layer === this.info(c).layer ? this.chosen[c] : null;
  }
  array(c, name) {
    const chosen = name.startsWith("chosen/") && this.chosenOf(c);
    if (chosen) return chosen.arrays[name];
    const plain = `features_${this.get("layers").indexOf(this.info(c).layer)}`; // what the copula does not change
    return this.frames[c].arrays[name] || this.bundles[plain]?.[c].arrays[name];
  }
  classes(c, view) {
    if (view === "chosen") return (this.chosenOf(c) || this.frames[c]).info.chosen;
    return this.info(c).classes.map((_, i) => i);
  }
  /** What cosines and modes are shown of: superclasses where there are, with their classes, else the classes. */
  groups(c) {
    const { classes, superclasses, superclass_of } = this.info(c);
    if (!superclasses.length) return classes.map((name) => ({ name, members: [name] }));
    return superclasses.map((name, g) => ({ name, members: classes.filter((_, i) => superclass_of[i] === g) }));
  }
  grouped(c) {
    return this.info(c).superclasses.length > 0;
  }
  /** What the controls say about the arrays that are shown; view: "" for all classes, "chosen/" for some. */
  words(view = "") {
    return { view, part: this.get("part"), side: this.get("encoder"), relevance: this.get("relevance") };
  }
  /** Whether there is a view of chosen classes alone. */
  get someClasses() {
    return this.many && this.array(0, keyOf("labels", { view: "chosen/", part: "test" }));
  }
  /** An array about the modes: excess, threshold, gap, count or mode_means. */
  mode(c, name) {
    return this.array(c, keyOf(name, this.words()));
  }
  currentMode(c) {
    return Math.max(1, Math.min(this.get("mode"), this.mode(c, "excess").shape[1]));
  }
  column(c, name) {
    return this.info(c).table[name];
  }

  // Controls

  chooseFeatures() {
    const there = (kind, i) => this.live || !!this.bundles[`${kind}_${i}`];
    const some = (kind) => this.get("layers").some((_, i) => there(kind, i));
    const images = { train: "training images", test: this.given ? "given images" : "test images" };
    this.select("features of", "part", this.parts.map((p) => [p, images[p]]), ABOUT.part);
    const folder = (i) => this.pairs === 1 ? ` (${this.info(0).encoders[i].slice(0, 24)})` : "";
    this.select("encoder", "encoder", [["a", "A" + folder(0)], ["b", "B" + folder(1)]], ABOUT.encoder);
    this.layers((i) => there("features", i) || there("copula", i));
    this.select("relevant is", "relevance", RELEVANCES, ABOUT.relevance);
    const scores = [[false, "as they are", some("features")], [true, "normal scores (copula)", some("copula")]];
    this.select("marginals", "copula", scores, ABOUT.copula);
  }
  chooseView() {
    if (this.someClasses) {
      const help = ABOUT.view + (this.live ? " Choose others below." : "");
      this.few = this.select("show", "view", [["all", "all classes"], ["chosen", ""]], help).options[1];
    }
    this.select("scale", "scale", [["own", "of each checkpoint"], ["common", "of the last checkpoint"]], ABOUT.scale);
    if (this.live && this.many) this.chooser();
  }
  /** Boxes to tick, for the classes that are shown alone. */
  chooser() {
    const names = this.info(0).classes, boxes = names.map((_, i) => h("input", { type: "checkbox", value: i }));
    const apply = () => {
      const chosen = boxes.filter((b) => b.checked).map((b) => +b.value);
      if (chosen.length < 2 || chosen.length > 4) {
        return this.tell("Choose two to four classes; four are shown in three dimensions.");
      }
      this.set("classes", chosen);
      this.set("view", "chosen");
    };
    this.showing("classes", () => boxes.forEach((b, i) => b.checked = this.get("classes").includes(i)));
    const labels = names.map((n, i) => h("label", {}, boxes[i], n));
    const button = h("button", { type: "button", onclick: apply }, "show these");
    const parts = [h("summary", {}, "choose classes"), h("div", {}, ...labels, button)];
    this.controls.append(h("details", { class: "ncib-chooser" }, ...parts));
  }
  /** Names the chosen classes in the list. */
  nameChosen() {
    if (!this.few) return;
    const names = this.classes(0, "chosen").map((c) => this.info(0).classes[c]);
    this.few.textContent = `only ${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;
  }
  refresh() {
    this.frames;
    this.nameChosen();
    super.refresh();
  }

  // Words

  title(c, text) {
    const { name } = this.info(c);
    return name ? `${name}: ${text}` : text;
  }
  /** How the accuracy is called, and whose NC1 it is. */
  get accuracy() {
    return this.given ? "held-out accuracy" : "test accuracy";
  }
  get whose() {
    return this.given ? "given features" : this.get("part");
  }
  /** The status line of one pair: what is seen, and what is told of it. */
  line(c) {
    const i = this.index(c), { epochs, encoders, classes } = this.info(c), k1 = classes.length - 1;
    const side = this.get("encoder"), words = this.words();
    const value = (name) => this.column(c, columnOf(name, words))[i];
    const who = `encoder ${side.toUpperCase()} (${encoders[+(side === "b")]})`;
    const nc1 = `NC1 ${number(value("nc1"))} (${this.whose})`;
    const count = `${this.mode(c, "count").values[i]} transitions (K−1 = ${k1})`;
    const gap = `gap behind mode ${k1} ×${number(this.mode(c, "gap").values[i])}`;
    const told = `${this.accuracy} ${percent(value("accuracy"))}, ${nc1}, ${count}, ${gap}`;
    return [`${this.title(c, `epoch ${epochs[i]}`)}, ${who}: `, `${told}. `];
  }
  say() {
    const line = (_, c) => {
      const [seen, told] = this.line(c);
      return h("span", {}, seen, ...explained(told)); // names of folders are no terms
    };
    this.said.replaceChildren(...Array.from({ length: this.pairs }, line));
  }
  /** The timeline's table; of several pairs below each other. */
  csv() {
    const names = Object.keys(this.info(0).table), pair = (name) => this.pairs > 1 ? [name] : [];
    const table = [[...pair("pair"), ...names]];
    for (let c = 0; c < this.pairs; c++) {
      const row = (_, i) => [...pair(this.info(c).name), ...names.map((n) => this.column(c, n)?.[i])];
      table.push(...this.info(c).epochs.map(row));
    }
    return csv(table);
  }
}
