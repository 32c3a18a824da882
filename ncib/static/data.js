// The packed data, and the page that stands for a kernel's model.
import "./d3.js";
import schema from "./schema.json" with { type: "json" };

const INTEGERS = { int16: Int16Array, uint32: Uint32Array, uint16: Uint16Array, uint8: Uint8Array };
const ARRAYS = { float32: Float32Array, ...INTEGERS };

/** What `ncib.pages.pack` wrote: [{info, arrays: {name: {shape, values}}}]. */
export function unpack(data) {
  const view = ArrayBuffer.isView(data);
  const bytes = view ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice() : new Uint8Array(data);
  const length = new DataView(bytes.buffer).getUint32(0, true), start = 8 * Math.ceil((4 + length) / 8);
  const parts = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  for (const part of parts) {
    for (const [name, { dtype, shape, offset, scale }] of Object.entries(part.arrays)) {
      const raw = new ARRAYS[dtype](bytes.buffer, start + offset, shape.reduce((a, b) => a * b, 1));
      part.arrays[name] = { shape, values: scale ? Float32Array.from(raw, (v) => v * scale) : raw };
    }
  }
  return parts;
}

const filled = (template, words) => template.replace(/\{(\w+)\}/g, (_, word) => words[word]);

/** The name of an array of checkpoints in the packed data; words: {view, part, side, relevance}, those it needs. */
export const keyOf = (name, words) => filled(schema.checkpoints.arrays[name].key, words);

/** The name of a column of the timeline's table; words: {part, side}. */
export const columnOf = (name, words = {}) => filled(schema.checkpoints.columns[name].key, words);

/** Entry i along the first axis of an array, flat. */
export function at(array, i) {
  const n = array.values.length / array.shape[0];
  return array.values.subarray(i * n, (i + 1) * n);
}

/** Whether a logarithmic axis has a place for it. */
export const positive = (v) => v > 0 && Number.isFinite(v);

export const finite = (values) => Array.from(values).filter(Number.isFinite);
export const quantile = (values, p) => d3.quantile(Float64Array.from(values).sort(), p) || 0;

/** Position of the value that lies nearest to v; of two the first. */
export function nearest(values, v) {
  let best = 0;
  values.forEach((x, i) => {
    if (Math.abs(x - v) < Math.abs(values[best] - v)) best = i;
  });
  return best;
}

/** Position of the last value up to v in an increasing list; 0 before the first. */
export function lastUpTo(values, v) {
  let found = 0;
  values.forEach((x, i) => {
    if (x <= v) found = i;
  });
  return found;
}

const quoted = (v) => {
  if (v === null || v === undefined) return "";
  return /[",\n]/.test(v) ? `"${String(v).replaceAll('"', '""')}"` : v;
};

/** Rows as the text of a CSV file. */
export const csv = (table) => table.map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";

/** Stands for the kernel's model where there is no kernel. */
export class Page {
  constructor(state) {
    Object.assign(this, { state, handlers: {} });
  }
  get(key) {
    return this.state[key];
  }
  set(key, value) {
    if (this.state[key] === value) return;
    this.state[key] = value;
    for (const handler of this.handlers["change:" + key] || []) handler();
  }
  on(name, handler) {
    (this.handlers[name] ||= []).push(handler);
  }
  off() {
    this.handlers = {};
  }
  save_changes() {}
}
