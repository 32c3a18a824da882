// Names beside their marks: the same rule as `ncib.plots.place_labels`.

const DEGREES = [-45, 0, -90, 45, -135, 90, 180, 135, -22.5, -67.5, 22.5, 67.5, -112.5, -157.5, 112.5, 157.5];
const DIRECTIONS = DEGREES.map((a) => [Math.cos(a * Math.PI / 180), Math.sin(a * Math.PI / 180)]);
const RINGS = 8, STEP = 8; // how often, and by how many pixels, a name moves away from its mark
const OUTSIDE = 1e3; // what a pixel outside the picture costs, in square pixels that are covered

/** How far the middle of a label lies beyond the ring, so that its edge touches the ring. */
const outward = (u, half) => Math.sign(u) * Math.min(1, Math.abs(u) * 1.42) * half;

/** The area that two boxes share. */
function shared(a, b) {
  const x = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), y = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  return x > 0 && y > 0 ? x * y : 0;
}

/** How many pixels of a box stick out of the frame. */
const beyond = (box, [left, top, right, bottom]) =>
  Math.max(0, left - box[0]) + Math.max(0, top - box[1]) + Math.max(0, box[2] - right) + Math.max(0, box[3] - bottom);

/** The best place for a label of half sizes `half` beside a point: where it covers least of what is taken. */
function bestPlace([px, py], half, frame, radius, taken) {
  let least = Infinity, best = null;
  for (let ring = 0; ring < RINGS && least > 1e-9; ring++) {
    for (const [ux, uy] of DIRECTIONS) {
      const d = radius + 1 + STEP * ring,
        x = px + ux * d + outward(ux, half[0]),
        y = py + uy * d + outward(uy, half[1]);
      const box = [x - half[0], y - half[1], x + half[0], y + half[1]];
      const cost = taken.reduce((sum, other) => sum + shared(box, other), OUTSIDE * beyond(box, frame));
      if (cost < least - 1e-9) {
        least = cost;
        best = { x, y, led: ring > 0, box };
      }
      if (least <= 1e-9) break;
    }
  }
  return best;
}

/** Centres of labels that lie on no other label and on no mark; `led`: too far from its mark to go without a line. */
export function placeLabels(points, sizes, frame, radius = 6) {
  const taken = points.map(([x, y]) => [x - radius, y - radius, x + radius, y + radius]);
  return points.map((point, i) => {
    const best = bestPlace(point, sizes[i].map((s) => s / 2), frame, radius, taken);
    taken.push(best.box);
    return best;
  });
}
