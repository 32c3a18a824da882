// Matrices of cells in one canvas.
import { h } from "./elements.js";
import { Panel } from "./panel.js";

/** 0 to 255 for a value from low to high. */
const level = (v, low, high) => Math.max(0, Math.min(255, Math.round(255 * (v - low) / (high - low))));

/** A panel with a canvas for matrices; labels stand around them. */
export class Heat extends Panel {
  /** Draws k × l values into a box {x, y, w, h}; NaN stays transparent. */
  cells(values, k, l, { x, y, w, h: height }, table, [low, high]) {
    const scratch = this.scratch ||= h("canvas");
    Object.assign(scratch, { width: l, height: k });
    const pen = scratch.getContext("2d"), image = pen.createImageData(l, k);
    for (let j = 0; j < k * l; j++) {
      if (Number.isNaN(values[j])) continue;
      image.data.set(table[level(values[j], low, high)], 4 * j);
      image.data[4 * j + 3] = 255;
    }
    pen.putImageData(image, 0, 0);
    this.pen.imageSmoothingEnabled = false;
    this.pen.clearRect(x, y, w, height);
    this.pen.drawImage(scratch, 0, 0, l, k, x, y, w, height);
  }
}
