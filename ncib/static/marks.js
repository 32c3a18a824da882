// Colours, shapes and marks that the pictures share.
import "./d3.js";
import schema from "./schema.json" with { type: "json" };
import { h } from "./elements.js";

/** Okabe & Ito; shapes tell apart what repeats. */
export const COLOURS = Object.values(schema.colours);
export const ORANGE = schema.colours.orange;

/** Of lines and texts: 3 : 1 and 4.5 : 1 against the page in both themes. */
export const BLUE = "var(--ncib-strong)", RED = "var(--ncib-warm)";

export const SHAPES = [d3.symbolCircle, d3.symbolTriangle, d3.symbolSquare, d3.symbolDiamond];
export const colour = (c) => COLOURS[c % 7], shape = (c) => SHAPES[Math.floor(c / 7) % 4];

/** The outline of a symbol of so many square pixels. */
export const symbol = (kind, area) => d3.symbol(kind, area)();

/** Draws the marker of a class mean among so many: with hundreds they are small and have hardly an outline. */
export function meanMark(mark, c, count, area) {
  const share = Math.min(1, 60 / count), d = symbol(shape(c), area * share);
  mark.append("path").attr("d", d).attr("fill", colour(c)).style("stroke-width", share < 1 ? 1.2 * share : null);
}

/** 256 colours from −1 to 1, as numbers: purple, white, brown. */
export const PUOR = d3.range(256).map((i) => d3.interpolatePuOr(1 - i / 255).match(/\d+/g).map(Number));

/** 256 colours from 0 to 1: from white to the blue of Okabe & Ito. */
export const BLUES = d3.range(256).map((i) => [0, 114, 178].map((end) => Math.round(255 - (255 - end) * i / 255)));

/** A circle as part of a path. */
export const dot = (x, y, r = 3.5) => `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`;

const spike = (i) => [Math.sin(i * Math.PI / 5), -Math.cos(i * Math.PI / 5)].map((v) => (i % 2 ? 4 : 10) * v);

/** The optimum is a star, the code made of the class means a triangle that stands on its tip. */
export const STAR = d3.line()(d3.range(11).map(spike)), DOWN = "M-6,-5L6,-5L0,6Z";

const sprites = new Map();

/** The marker of one class, drawn once, as a canvas. */
export function sprite(c, ratio) {
  const key = c % 28 + "/" + ratio;
  if (!sprites.has(key)) {
    const canvas = h("canvas", { width: Math.ceil(8 * ratio), height: Math.ceil(8 * ratio) });
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 4 * ratio, 4 * ratio);
    pen.fillStyle = colour(c);
    pen.globalAlpha = .5;
    pen.fill(new Path2D(symbol(shape(c), 14)));
    sprites.set(key, canvas);
  }
  return sprites.get(key);
}
