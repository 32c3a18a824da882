// Axes over epochs and factors that pictures of training share.
import "./d3.js";

const ROOM = 26; // pixels from one epoch's label to the next

/** Epochs grow roughly by factors, and begin at 0. */
export const epochScale = (last, from, to) => d3.scaleSymlog([0, Math.max(1, last)], [from, to]).constant(1);

/** Those epochs whose labels do not collide. */
export function epochTicks(epochs, x) {
  const ticks = [];
  for (const e of epochs) if (!ticks.length || x(e) - x(ticks[ticks.length - 1]) > ROOM) ticks.push(e);
  return ticks;
}

/** Ticks of a logarithmic scale that are one of the given factors times a power of ten. */
export function powers(y, ...factors) {
  const off = (v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v)));
  return y.ticks(4).filter((v) => factors.some((f) => off(v / f) < 1e-9));
}
