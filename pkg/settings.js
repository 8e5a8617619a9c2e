// The settings of a detector, checked when they are set, so that no invalid value is passed on.
import { MicroYoloError, given } from "./error.js";
import { checkOptions } from "./options.js";

/**
 * @typedef {object} Settings
 * @property {number} scoreThreshold
 * @property {number} iouThreshold
 * @property {number} maxDetections
 * @property {readonly (string | number)[] | undefined} classes
 */

/**
 * @typedef {Settings & {
 *   inputSize?: { width: number, height: number },
 *   threads: number,
 *   limits?: import("./index.js").Limits,
 * }} LoadSettings
 */

/** @type {Readonly<Settings>} The same defaults as the Rust crate's builder. */
export const defaultSettings = Object.freeze({
  scoreThreshold: 0.25,
  iouThreshold: 0.45,
  maxDetections: 100,
  classes: undefined,
});

/** The engine's default of `limits.memoryBytes`. */
export const MEMORY_BYTES = 2 ** 30;

/**
 * `base` with the given ones of `changes`. The result is always a new object, so an identical object means unchanged
 * settings.
 * @param {Readonly<Settings>} base
 * @param {{ [K in keyof Settings]?: unknown }} changes
 * @returns {Readonly<Settings>}
 */
export function withSettings(base, changes) {
  const {
    scoreThreshold = base.scoreThreshold,
    iouThreshold = base.iouThreshold,
    maxDetections = base.maxDetections,
  } = changes;
  return Object.freeze({
    scoreThreshold: share("scoreThreshold", scoreThreshold),
    iouThreshold: share("iouThreshold", iouThreshold),
    maxDetections: maxDetections === Infinity ? Infinity : count("maxDetections", maxDetections, ", or Infinity"),
    classes: classList("classes" in changes ? changes.classes : base.classes), // `undefined` selects all.
  });
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function share(name, value) {
  if (typeof value === "number" && value >= 0 && value <= 1) return value; // False for NaN.
  throw new MicroYoloError("invalid-option", `\`${name}\` must be a number from 0 to 1, not ${given(value)}`);
}

/**
 * @param {string} name
 * @param {unknown} value
 * @param {string} [other] another permitted value, for the message
 */
function count(name, value, other = "") {
  if (Number.isInteger(value) && Number(value) > 0 && Number(value) < 2 ** 32) return Number(value);
  throw new MicroYoloError("invalid-option", `\`${name}\` must be a whole number above 0${other}, not ${given(value)}`);
}

/**
 * The requested number of threads. The browser and the page determine how many there will be.
 * @param {unknown} value
 */
export function checkedThreads(value) {
  return value === undefined ? 1 : Math.min(count("threads", value), 16);
}

/**
 * The limits for a model. The engine has defaults for missing ones.
 * @param {unknown} value
 * @returns {import("./index.js").Limits | undefined}
 */
export function checkedLimits(value) {
  if (value === undefined) return undefined;
  checkOptions("`limits`", value, ["memoryBytes", "nodes", "macs"]);
  const limits = /** @type {import("./index.js").Limits} */ ({ ...value });
  for (const [name, limit] of Object.entries(limits)) {
    if (limit === undefined || (typeof limit === "number" && limit >= 0)) continue; // False for NaN.
    throw new MicroYoloError("invalid-option", `\`limits.${name}\` must be a number from 0 to Infinity, not ${given(limit)}`);
  }
  return limits;
}

/**
 * The SHA-256 of a file as lower-case text.
 * @param {unknown} value
 */
export function checkedSum(value) {
  if (value === undefined) return undefined;
  if (typeof value === "string" && /^[\da-f]{64}$/i.test(value)) return value.toLowerCase();
  throw new MicroYoloError("invalid-option", "`sha256` must be 64 hexadecimal digits");
}

/** @param {unknown} value */
function classList(value) {
  if (value === undefined || value === null) return undefined;
  if (Array.isArray(value) && [...value].every((one) => typeof one === "string" || Number.isInteger(one))) {
    return Object.freeze([...value]); // Later changes to the array would not be checked.
  }
  throw new MicroYoloError("invalid-option", "`classes` must be an array of labels or class numbers");
}

/**
 * The requested input size. The engine checks which sizes are possible.
 * @param {unknown} value
 * @returns {{ width: number, height: number } | undefined}
 */
export function checkedInputSize(value) {
  if (value === undefined) return undefined;
  if (typeof value === "number") return { width: count("inputSize", value), height: value };
  const size = /** @type {any} */ (value);
  if (typeof size !== "object" || size === null || Array.isArray(size)) {
    throw new MicroYoloError("invalid-option", `\`inputSize\` must be a number or { width, height }, not ${given(value)}`);
  }
  return { width: count("inputSize.width", size.width), height: count("inputSize.height", size.height) };
}
