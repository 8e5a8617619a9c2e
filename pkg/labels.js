// Places the labels of boxes. No DOM.

/** @typedef {{ left: number, top: number, width: number, height: number }} Rect in canvas pixels */

/**
 * The maximum distance of a label from its box, in heights of the label: a more distant one would seem to belong to
 * another box.
 */
const FAR = 2;
/** Number of rows that are tried for a tall box. With thousands of objects, each row is compared with all labels. */
const ROWS = 8;

/**
 * A position for the label of each box: the first one that is free of labels placed earlier. If all are taken, the
 * label is left out. The same holds for a box outside the canvas.
 * @param {readonly { box: Rect, width: number, height: number }[]} labels the most important first; width and height of the label
 * @param {{ width: number, height: number }} canvas
 * @returns {(Rect | undefined)[]}
 */
export function placeLabels(labels, canvas) {
  /** @type {Rect[]} */
  const taken = [];
  return labels.map(({ box, width, height }) => {
    const left = Math.max(0, box.left);
    const top = Math.max(0, box.top);
    const right = Math.min(canvas.width, box.left + box.width);
    const bottom = Math.min(canvas.height, box.top + box.height);
    if (!(left <= right && top <= bottom)) return undefined;
    for (const [x, y] of candidates({ left, top, right, bottom }, width, height)) {
      const place = { left: Math.max(0, Math.min(x, canvas.width - width)), top: y, width, height };
      if (width > canvas.width || y < 0 || y + height > canvas.height || taken.some((one) => covers(one, place))) continue;
      taken.push(place);
      return place;
    }
    return undefined;
  });
}

/**
 * Top left corners of possible positions, the best first: above, inside or below, beside, then further inside or away.
 * Positions that would cover half of the box itself are used only if these are taken.
 * @param {{ left: number, top: number, right: number, bottom: number }} box
 * @param {number} width
 * @param {number} height
 */
function* candidates({ left, top, right, bottom }, width, height) {
  const last = bottom - height;
  /** @param {number[]} rows from its left edge, to its right edge */
  const aligned = (...rows) => rows.flatMap((y) => [[left, y], [right - width, y]]);
  const beside = [top, last].flatMap((y) => [[right, y], [left - width, y]]);
  yield* aligned(top - height);
  if (bottom - top >= 2 * height) yield* aligned(top, bottom, last);
  else yield* [...aligned(bottom), ...beside, ...aligned(top, last)];
  for (let row = 1; row < ROWS && top + row * height < last; row += 1) yield* aligned(top + row * height);
  yield* beside;
  for (let row = 1; row <= FAR; row += 1) yield* aligned(top - (row + 1) * height, bottom + row * height);
}

/**
 * @param {Rect} a
 * @param {Rect} b
 */
function covers(a, b) {
  return a.left < b.left + b.width && b.left < a.left + a.width && a.top < b.top + b.height && b.top < a.top + a.height;
}
