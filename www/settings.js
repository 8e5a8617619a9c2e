// What a visitor sets: defaults, bounds, and the memory of this browser. No DOM.

/**
 * @typedef {object} Settings
 * @property {number} score percent, 10 to 90: objects below are not shown
 * @property {number} iou percent, 10 to 90: of two boxes of one class that overlap by more, one is shown
 * @property {string} model id of a model of the site, or the URL of one
 * @property {number} size side in pixels to which pictures are fitted; 0 for the model's own
 * @property {boolean} compare whether a second model looks at the same pictures
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

/** What is kept from visit to visit. A comparison or a class filter that is forgotten about would puzzle. */
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
 * Of anything, the settings in it that are valid: memory and links may hold what an older page, or somebody, wrote.
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
  // The address of somebody's model stays in the link that named it. Its input size is not one for another model.
  if (/^https?:/.test(kept.model) || kept.model.startsWith("own-")) {
    delete kept.model;
    delete kept.size;
  }
  try {
    storage().setItem(KEY, JSON.stringify(kept));
  } catch {
    // Forbidden or full: the page works without.
  }
}
