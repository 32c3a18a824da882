// Numbers and terms as readers see them.
import glossary from "./glossary.json" with { type: "json" };
import schema from "./schema.json" with { type: "json" };
import { h } from "./elements.js";

const missing = (v) => v === null || v === undefined || Number.isNaN(v);

export function number(v, digits = 3) {
  if (missing(v)) return "none";
  return v === Infinity ? "∞" : String(Number(v.toPrecision(digits))).replace("-", "−");
}

export const percent = (v) => missing(v) ? "none" : `${(100 * v).toFixed(1)} %`;

/** A group of classes by its name, several classes with the first of them. */
export function called({ name, members }) {
  const [n, more] = [members.length, members.length > 5 ? ", …" : ""];
  return n < 2 ? name : `${name} (${n} classes: ${members.slice(0, 5).join(", ")}${more})`;
}

/** What the code should tell about: the choices of Y, and what they are called. */
export const RELEVANCES = Object.entries(schema.relevances);

/** The terms that can be met in an explorer: [term, one plain sentence]. */
export const TERMS = glossary.filter((t) => t.explorers).map((t) => [t.term, t.sentence]);

const SPOTTED = glossary.filter((t) => t.explorers && t.pattern);
const ALONE = (pattern) => `(?<![\\p{L}\\p{N}_])(${pattern})(?![\\p{L}\\p{N}_])`; // whole words
const SPOTS = new RegExp(SPOTTED.map((t) => ALONE(t.pattern)).join("|"), "u");

/** A text as nodes, its terms with what they mean under the pointer. */
export function explained(text) {
  const found = SPOTS.exec(text);
  if (!found) return [text];
  const term = SPOTTED[found.slice(1).findIndex((v) => v !== undefined)];
  const rest = text.slice(found.index + found[0].length);
  return [text.slice(0, found.index), h("abbr", { title: term.sentence }, found[0]), ...explained(rest)];
}
