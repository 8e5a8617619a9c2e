// Converts rows of numbers from the engine to the objects that a page gets.

/** Values per object: class, score, x, y, width, height, track (-1 for none). */
const ROW = 7;

/**
 * Converts boxes from pixels that the engine saw to pixels of the source.
 * @param {Float32Array} rows modified in place
 * @param {{ x: number, y: number }} factor
 */
export function scaleRows(rows, factor) {
  for (let at = 0; at < rows.length; at += ROW) {
    rows[at + 2] *= factor.x;
    rows[at + 3] *= factor.y;
    rows[at + 4] *= factor.x;
    rows[at + 5] *= factor.y;
  }
}

/**
 * @param {Float32Array} rows
 * @param {readonly string[]} labels
 * @returns {import("./index.js").DetectedObject[]}
 */
export function objectsFromRows(rows, labels) {
  const objects = [];
  for (let at = 0; at < rows.length; at += ROW) {
    const [classId, score, x, y, width, height, track] = rows.subarray(at, at + ROW);
    /** @type {import("./index.js").DetectedObject} */
    const object = { label: labels[classId] ?? String(classId), classId, score, box: { x, y, width, height } };
    if (track >= 0) object.trackId = track;
    objects.push(object);
  }
  return objects;
}
