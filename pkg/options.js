// Checks options by name: a misspelled option would otherwise be ignored silently.
import { MicroYoloError, given, shown } from "./error.js";
import { kindOf } from "./kind.js";

/** Options that are on or off. */
const FLAGS = ["track", "transfer", "worker"];

/**
 * @param {string} call what they are options of
 * @param {unknown} options
 * @param {readonly string[]} known
 * @param {readonly string[]} [settable] options of `Detector.load()` only, which can also be set later
 */
export function checkOptions(call, options, known, settable = []) {
  if (options === undefined) return;
  // By its kind: for a URL, a Blob or a signal in place of options, no option would be found, and all would have
  // defaults.
  if (kindOf(options) !== "Object") {
    throw new MicroYoloError("invalid-option", `the options of ${call} must be a plain object, not ${given(options)}`);
  }
  // Not by truthiness: fetch() does not accept `false` either. By its form, because it may belong to another realm.
  const signal = /** @type {{ signal?: any }} */ (options).signal ?? undefined;
  if (signal !== undefined && !(typeof signal.aborted === "boolean" && signal.addEventListener)) {
    throw new MicroYoloError("invalid-option", "`signal` must be an AbortSignal");
  }
  for (const [name, value] of Object.entries(/** @type {object} */ (options))) {
    // Text is truthy, even "false".
    if (FLAGS.includes(name) && known.includes(name) && typeof (value ?? true) !== "boolean") {
      throw new MicroYoloError("invalid-option", `\`${name}\` must be a boolean, not ${given(value)}`);
    }
    if (value === undefined || known.includes(name)) continue;
    const nearest = nearestOf(name, [...known, ...settable]);
    let hint = nearest ? `did you mean \`${nearest}\`?` : `it has ${known.map((one) => `\`${one}\``).join(", ")}`;
    if (nearest && settable.includes(nearest)) hint = `set \`detector.${nearest}\`, which holds for all later calls`;
    throw new MicroYoloError("invalid-option", `${call} has no option \`${shown(name)}\`; ${hint}`);
  }
}

/**
 * The most similar known name, if one is similar.
 * @param {string} name
 * @param {readonly string[]} known
 */
function nearestOf(name, known) {
  const plain = (/** @type {string} */ text) => text.toLowerCase().replace(/[^a-z]/g, "");
  const given = plain(name).slice(0, 40);
  if (!given) return undefined;
  const near = (/** @type {string} */ a, /** @type {string} */ b) => distance(a, b) <= (b.length < 5 ? 1 : Math.max(2, Math.floor(b.length / 4)));
  const words = (/** @type {string} */ text) => text.split(/(?=[A-Z])|[^A-Za-z]/).map(plain).filter((word) => word.length > 3);
  return (
    known.find((one) => plain(one) === given) ??
    // `threshold` for `scoreThreshold`, `modelPath` for `model`.
    known.find((one) => given.length > 2 && (plain(one).includes(given) || given.includes(plain(one)))) ??
    known.find((one) => near(given, plain(one))) ??
    // `treshold`, `minScore`: one word is right.
    known.find((one) => words(one).some((word) => words(name).some((other) => near(other, word))))
  );
}

/**
 * The Levenshtein distance: how many letters must be inserted, removed or changed.
 * @param {string} a
 * @param {string} b
 */
function distance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}
