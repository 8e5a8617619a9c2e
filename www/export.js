// Writes results in the formats of other programs. No DOM.

/**
 * @typedef {object} Found
 * @property {string} name of the picture's file
 * @property {number} width of the picture, in pixels
 * @property {number} height
 * @property {readonly import("./results.js").Settled[]} objects
 * @property {readonly string[]} labels of the model, by class number
 * @property {string} model its name
 */

const round = (value, digits) => Number(value.toFixed(digits));
const boxOf = ({ x, y, width, height }) => ({ x: round(x, 2), y: round(y, 2), width: round(width, 2), height: round(height, 2) });

/** @param {Found} found */
export function toJson({ name, width, height, objects, model }) {
  const plain = objects.map(({ label, classId, score, box, trackId }) => ({
    label,
    classId,
    score: round(score, 4),
    box: boxOf(box),
    ...(trackId === undefined ? {} : { trackId }),
  }));
  return `${JSON.stringify({ image: name, width, height, model, objects: plain }, null, 2)}\n`;
}

/** A field of RFC 4180. A text that a spreadsheet would read as a formula gets an apostrophe in front. */
function field(value) {
  const text = /^[=+\-@\t\r]/.test(String(value)) && typeof value !== "number" ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** @param {Found} found */
export function toCsv({ name, width, height, objects }) {
  const rows = objects.map(({ label, classId, score, box, trackId }) => {
    const { x, y, width: w, height: h } = boxOf(box);
    return [name, width, height, label, classId, round(score, 4), x, y, w, h, trackId ?? ""];
  });
  const head = ["image", "image_width", "image_height", "label", "class_id", "score", "x", "y", "width", "height", "track_id"];
  return [head, ...rows].map((row) => `${row.map(field).join(",")}\r\n`).join("");
}

/**
 * One picture as a COCO data set with scores. Categories are numbered from 1 in the model's order.
 * @param {Found} found
 */
export function toCoco({ name, width, height, objects, labels }) {
  const annotations = objects.map(({ classId, score, box }, index) => {
    const { x, y, width: w, height: h } = boxOf(box);
    return { id: index + 1, image_id: 1, category_id: classId + 1, bbox: [x, y, w, h], area: round(w * h, 2), iscrowd: 0, score: round(score, 4) };
  });
  const categories = labels.map((label, id) => ({ id: id + 1, name: label }));
  return `${JSON.stringify({ images: [{ id: 1, file_name: name, width, height }], annotations, categories }, null, 1)}\n`;
}

/**
 * One line per object: class, then centre x, centre y, width and height relative to the picture. Training programs read
 * these five, so the score is not included.
 * @param {Found} found
 */
export function toYolo({ width, height, objects }) {
  return objects
    .map(({ classId, box }) => {
      const parts = [(box.x + box.width / 2) / width, (box.y + box.height / 2) / height, box.width / width, box.height / height];
      return `${classId} ${parts.map((part) => part.toFixed(6)).join(" ")}\n`;
    })
    .join("");
}

/** By the values of the page's list of formats. */
export const FORMATS = {
  json: { write: toJson, type: "application/json", suffix: "-boxes.json" },
  csv: { write: toCsv, type: "text/csv", suffix: "-boxes.csv" },
  coco: { write: toCoco, type: "application/json", suffix: "-coco.json" },
  // Training programs look for the picture's name with this extension.
  yolo: { write: toYolo, type: "text/plain", suffix: ".txt", exact: true },
  png: { type: "image/png", suffix: "-boxes.png" },
};

/**
 * A file name: the picture's name without its extension, and without characters that cause problems in file systems or
 * shells.
 * @param {string} name
 * @param {string} suffix
 * @param {{ exact?: boolean }} [format] `exact`: unchanged, except for characters that no file system accepts
 */
export function fileName(name, suffix, { exact = false } = {}) {
  const own = name.replace(/^.*[\\/]/, "").replace(/\.[A-Za-z0-9]{1,5}$/, "");
  const stem = exact
    ? own.replace(/[\p{Cc}<>:"|?*]/gu, "-")
    : own
        .normalize("NFC")
        .replace(/[^\p{L}\p{N}._-]+/gu, "-")
        .replace(/^(.{80}).*$/su, "$1")
        .replace(/^[-.]+|[-.]+$/g, "");
  return `${stem || "picture"}${suffix}`;
}

/**
 * "camera-2026-11-28-180501"
 * @param {Date} date
 */
export function momentName(date) {
  const two = (value) => String(value).padStart(2, "0");
  const day = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join("-");
  return `camera-${day}-${two(date.getHours())}${two(date.getMinutes())}${two(date.getSeconds())}`;
}
