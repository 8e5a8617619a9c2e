// Converts the detector's output to what is shown: chosen classes, one class per position, the threshold. No DOM.

/** @typedef {import("./pkg/index.js").DetectedObject} DetectedObject */
/** @typedef {DetectedObject & { rival?: { label: string, score: number } }} Settled */

/**
 * If boxes of two classes overlap by more than this (intersection over union), they belong to the same object, such as
 * a bus that may be a truck. A rider and a horse, or a cup and its table, overlap less.
 */
export const RIVAL_IOU = 0.7;

/**
 * Intersection over union, 0 to 1.
 * @param {import("./pkg/index.js").Box} a
 * @param {import("./pkg/index.js").Box} b
 */
export function overlap(a, b) {
  const width = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const height = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  if (width <= 0 || height <= 0) return 0;
  const both = width * height;
  return both / (a.width * a.height + b.width * b.height - both);
}

/**
 * Of objects of different classes at the same position, only the one with the best score stays. The next best is its
 * `rival`.
 * @param {readonly DetectedObject[]} objects the best score first
 * @returns {Settled[]} the best score first
 */
export function settle(objects) {
  /** @type {Settled[]} */
  const kept = [];
  for (const object of objects) {
    const winner = kept.find(({ label, box }) => label !== object.label && overlap(box, object.box) > RIVAL_IOU);
    if (!winner) kept.push({ ...object });
    else winner.rival ??= { label: object.label, score: object.score };
  }
  return kept;
}

/**
 * @param {readonly DetectedObject[]} objects the best score first
 * @param {{ score: number, classes: readonly string[] }} wanted the minimum score, 0 to 1; no classes mean all
 * @returns {{ seen: Settled[], unsure: Settled[] }} at or above the threshold, and below it
 */
export function sift(objects, { score, classes }) {
  const chosen = classes.length ? objects.filter(({ label }) => classes.includes(label)) : objects;
  const settled = settle(chosen);
  const seen = settled.filter((object) => object.score >= score);
  for (const object of seen) if (object.rival && object.rival.score < score) delete object.rival;
  return { seen, unsure: settled.filter((object) => object.score < score) };
}

/**
 * The object under a point. If there are several, the one with the smallest box, which is inside the others.
 * @template {DetectedObject} T
 * @param {readonly T[]} objects
 * @param {{ x: number, y: number }} point in pixels of the picture
 */
export function objectAt(objects, { x, y }) {
  const inside = ({ box }) => x >= box.x && x <= box.x + box.width && y >= box.y && y <= box.y + box.height;
  const area = ({ box }) => box.width * box.height;
  return objects.filter(inside).sort((a, b) => area(a) - area(b))[0];
}
