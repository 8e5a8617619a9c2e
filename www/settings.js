// The visitor's settings: defaults, limits, and storage in this browser. No DOM.

/**
 * @typedef {object} Settings
 * @property {number} score percent, 10 to 90: objects below are not shown
 * @property {number} iou percent, 10 to 90: if two boxes of one class overlap by more, only one is shown
 * @property {string} model id of a model of the site, or the URL of one
 * @property {number} size side in pixels to which pictures are scaled; 0 for the model's own
 * @property {boolean} compare whether a second model runs on the same pictures
 * @property {string} model2
 * @property {number} size2
 * @property {boolean} track
 * @property {string[]} classes labels; none mean all
 */

/** @type {Readonly<Settings>} */
export const DEFAULTS = Object.freeze({
  score: 40,
  iou: 45,
  model: "large-int8",
  size: 0,
  compare: false,
  model2: "small-int8",
  size2: 0,
  track: false,
  classes: [],
});

/** Settings that are stored. A comparison or class filter that the visitor has forgotten would be confusing. */
const REMEMBERED = ["score", "iou", "model", "size", "track"];
const KEY = "micro-yolo";

export const SIZES = [160, 224, 256, 320, 416, 512, 640];

/** @type {{ [Name in keyof Settings]: (value: any) => boolean }} */
const VALID = {
  score: (value) => Number.isInteger(value) && value >= 10 && value <= 90,
  iou: (value) => Number.isInteger(value) && value >= 10 && value <= 90,
  model: isModel,
  model2: isModel,
  size: (value) => value === 0 || SIZES.includes(value),
  size2: (value) => value === 0 || SIZES.includes(value),
  compare: (value) => typeof value === "boolean",
  track: (value) => typeof value === "boolean",
  classes: (value) => Array.isArray(value) && value.length <= 100 && value.every((one) => typeof one === "string" && one),
};

function isModel(value) {
  return typeof value === "string" && (/^[a-z0-9-]{1,40}$/.test(value) || /^https?:\/\//.test(value));
}

/**
 * The valid settings in any value: storage and links may contain settings of an older page, or anything else.
 * @param {unknown} values
 * @returns {Partial<Settings>}
 */
export function valid(values) {
  if (!values || typeof values !== "object") return {};
  return Object.fromEntries(Object.entries(values).filter(([name, value]) => Object.hasOwn(VALID, name) && VALID[name](value)));
}

/**
 * @param {() => Storage} [storage] throws where the browser forbids it
 * @returns {Partial<Settings>}
 */
export function remembered(storage = () => localStorage) {
  try {
    const values = valid(JSON.parse(storage().getItem(KEY) ?? "{}"));
    return Object.fromEntries(Object.entries(values).filter(([name]) => REMEMBERED.includes(name)));
  } catch {
    return {}; // Forbidden, or not ours.
  }
}

/**
 * @param {Settings} settings
 * @param {() => Storage} [storage]
 */
export function remember(settings, storage = () => localStorage) {
  const kept = Object.fromEntries(REMEMBERED.map((name) => [name, settings[name]]));
  // The URL of a visitor's model stays in its link. Its input size does not apply to another model.
  if (/^https?:/.test(kept.model) || kept.model.startsWith("own-")) {
    delete kept.model;
    delete kept.size;
  }
  try {
    storage().setItem(KEY, JSON.stringify(kept));
  } catch {
    // Forbidden or full: the page works without it.
  }
}
