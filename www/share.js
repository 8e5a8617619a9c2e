// Converts the state of the page to the hash of its URL, and back. No DOM.
import { DEFAULTS, valid } from "./settings.js";

/** @typedef {import("./settings.js").Settings} Settings */
/** @typedef {{ kind: "sample", name: string } | { kind: "url", url: string }} Shareable */

/** Names in the URL, and how their values are parsed. */
const NAMES = {
  score: Number,
  iou: Number,
  model: String,
  size: Number,
  compare: (text) => text === "1",
  model2: String,
  size2: Number,
  track: (text) => text === "1",
  classes: (text) => text.split(",").filter(Boolean).map((one) => one.replace(/%2C|%25/gi, (mark) => decodeURIComponent(mark))),
};

/** Commas separate the names of classes, so a comma in a name is escaped. */
const escaped = (text) => text.replace(/[%,]/g, (mark) => encodeURIComponent(mark));
const textOf = (value) => (Array.isArray(value) ? value.map(escaped).join(",") : String(value));

/**
 * The settings that differ from the defaults. A model that was opened as a file has no URL, so it and its input size
 * are left out.
 * @param {Shareable | undefined} source
 * @param {Settings} settings
 * @returns {string} including "#", or "" if everything has its default
 */
export function toHash(source, settings) {
  const parameters = new URLSearchParams();
  if (source?.kind === "sample") parameters.set("sample", source.name);
  if (source?.kind === "url") parameters.set("url", source.url);
  const { compare } = settings;
  for (const name of Object.keys(NAMES)) {
    const value = settings[name];
    if (name.endsWith("2") && !compare) continue;
    if (String(value) === String(DEFAULTS[name]) && !(compare && name.startsWith("model"))) continue;
    if (/^(model|size)/.test(name) && settings[name.replace("size", "model")].startsWith("own-")) continue;
    parameters.set(name, typeof value === "boolean" ? (value ? "1" : "0") : textOf(value));
  }
  const text = parameters.toString();
  return text ? `#${text}` : "";
}

/**
 * @param {string} hash with or without "#"
 * @returns {{ source: Shareable | undefined, settings: Partial<Settings> }} only what is valid
 */
export function fromHash(hash) {
  const parameters = new URLSearchParams(hash.replace(/^#/, ""));
  const values = {};
  for (const [name, read] of Object.entries(NAMES)) {
    const text = parameters.get(name);
    if (text !== null) values[name] = read(text);
  }
  const sample = parameters.get("sample");
  const url = parameters.get("url");
  /** @type {Shareable | undefined} */
  let source;
  if (sample && /^[a-z0-9-]{1,40}$/.test(sample)) source = { kind: "sample", name: sample };
  else if (url && /^https?:\/\//.test(url)) source = { kind: "url", url };
  return { source, settings: valid(values) };
}
