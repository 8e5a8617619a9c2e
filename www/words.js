// The page's texts: sentences for errors, and the summary for screen readers. No DOM, so that Node can test it.

/** For each error code of the package, what a visitor can do. */
const SENTENCES = {
  "no-simd": "This browser is too old for the detector: its WebAssembly has no SIMD. Any browser since 2023 works.",
  unsupported:
    "This browser lacks something the detector needs, or a setting such as Lockdown Mode switches it off. A current Chrome, Edge, Firefox or Safari works.",
  network: "The detector could not be loaded. Are you connected? Then try again.",
  "worker-failed": "The browser did not start the detector's background worker. Is an extension blocking scripts?",
  "invalid-engine": "The detector's program arrived damaged. Reload the page; if that does not help, the site is broken.",
  "invalid-model": "The neural network arrived damaged. Reload the page; if that does not help, the site is broken.",
  "unsupported-model": "The neural network on this site is not one that this page can run.",
  "model-too-large": "The neural network on this site needs more memory or time than this page gives one.",
  "needs-tract": "The neural network on this site is not one that this page can run.",
  "unsupported-operator": "The neural network on this site is not one that this page can run.",
  "invalid-image": "That is not a picture or video this browser can open, or the file is damaged.",
  "file-unreadable": "That file cannot be read. It may have been moved, changed or deleted. Choose it again.",
  "sample-unreachable": "The sample could not be loaded. Are you connected? Then try again.",
  "video-breaks-off": "The video breaks off here: the rest of the file is missing or damaged.",
  "no-video": "This browser finds sound in that video, but no picture.",
  "image-too-large": "That picture is too large. Make it smaller than 16,384 pixels a side.",
  tainted:
    "That picture belongs to another site, or is an SVG with a web page in it: this page may not read it. Save it as PNG, then choose that.",
  "not-loaded": "That picture has not finished loading. Try again in a moment.",
  address: "That is no web address. Web addresses begin with https://.",
  "address-too-large": "The file behind that address is larger than 1 GB, which is more than this page takes.",
  "address-unreachable":
    "That address cannot be read from here: it does not exist, or its site does not let other pages read it (no CORS). Save the file and choose it.",
  export: "The file could not be made. The picture may be too large for this browser: try JSON or CSV.",
  crashed: "The detector crashed. That should not happen; try again, and please report the picture if it comes back.",
};

/** Files of neural networks for other programs. */
const OTHER_MODEL = /\.(pt|pth|pt2|ckpt|weights|safetensors|tflite|pb|keras|h5|mlmodel|mlpackage|ort|engine|gguf)$/i;

/**
 * A helpful sentence for any error that may reach a visitor.
 * @param {unknown} error
 */
export function explain(error) {
  const { code, message, file = "", type } = /** @type {{ code?: string, message?: string, file?: string, type?: string }} */ (error ?? {});
  // The format of phone photographs, which most browsers cannot open.
  if (code === "invalid-image" && (type === "image/heic" || /\.hei[cf]$/i.test(file))) return "This browser cannot open HEIC photographs. Save it as JPEG, then choose that.";
  if (code === "invalid-image" && type === "text/html") return "That is a web page, not a picture or video. Use the address of the picture itself.";
  if (code === "invalid-image" && OTHER_MODEL.test(file)) return "The page opens models as ONNX files only. Export that model as ONNX, then open it.";
  return SENTENCES[code] ?? `Something went wrong: ${message ?? error}`;
}

/** Sentences for a model that the visitor opened: the reason is then the model, not the site. */
const OWN_MODEL = {
  "invalid-model": "That model cannot be read: it is no intact ONNX file.",
  "unsupported-model": "That model is no YOLO network of a form that this page knows.",
  "unsupported-operator": "That model uses an operator that this page does not have.",
  "model-too-large": "That model needs more memory or time than this page gives one.",
  "inference-failed": "That model could not be run to its end.",
  "invalid-option": "That model does not take this input size.",
};

/**
 * @param {unknown} error
 * @param {boolean} [resized] whether the model works at another input size
 */
export function explainOwnModel(error, resized = false) {
  const { code, message } = /** @type {{ code?: string, message?: string }} */ (error ?? {});
  const sentence = OWN_MODEL[resized && code === "unsupported-model" ? "invalid-option" : code];
  return sentence ? `${sentence} (${message})` : explain(error);
}

/** For each reason for which a browser refuses a camera. */
const CAMERA_SENTENCES = {
  NotAllowedError:
    "The camera is not allowed for this page. Allow it in the browser's address bar or in the system's privacy settings, and try again.",
  SecurityError: "This browser forbids the camera here. A picture or a video file works all the same.",
  NotFoundError: "No camera was found. Connect one, or choose a picture instead.",
  NotReadableError: "The camera is in use by another program. Close that and try again.",
  OverconstrainedError: "That camera was not found. Was it unplugged? Choose another.",
  AbortError: "The camera could not be started. Try again, or choose a picture instead.",
};

/**
 * @param {unknown} error
 */
export function explainCamera(error) {
  const { name, message } = /** @type {{ name?: string, message?: string }} */ (error ?? {});
  return CAMERA_SENTENCES[name] ?? `The camera could not be started: ${message || name || error}`;
}

/** Words among COCO's whose plural is irregular. */
const PLURALS = {
  person: "people",
  sheep: "sheep",
  skis: "pairs of skis",
  knife: "knives",
  mouse: "mice",
  scissors: "pairs of scissors",
  broccoli: "pieces of broccoli",
  tv: "TVs",
};

/** @param {string} label maybe of a visitor's model */
function pluralOf(label) {
  if (Object.hasOwn(PLURALS, label)) return PLURALS[label];
  if (/(s|x|z|ch|sh)$/.test(label)) return `${label}es`;
  return /[^aeiou]y$/.test(label) ? `${label.slice(0, -1)}ies` : `${label}s`;
}

const SINGULARS = { skis: "a pair of skis", scissors: "a pair of scissors", broccoli: "broccoli", tv: "a TV" };

/**
 * "40 %", kept on one line.
 * @param {number} value
 */
export const percent = (value) => `${Math.round(value)}\u00a0%`;

/**
 * "A cat and 2 people.", or the uncertain objects if nothing is above the threshold.
 * @param {readonly { label: string }[]} seen
 * @param {readonly { label: string, score: number }[]} [unsure] the best score first
 * @param {number} [least] the threshold, in percent
 */
export function summary(seen, unsure = [], least = 0) {
  if (seen.length === 0) {
    // 39.6 % are not the 40 % that are demanded.
    const guesses = unsure.slice(0, 2).map(({ label, score }) => `${label} ${percent(Math.min(score * 100, least - 1))}`);
    return `Nothing above ${percent(least)}${guesses.length ? `; unsure: ${guesses.join(", ")}` : ""}.`;
  }
  const counts = new Map();
  for (const { label } of seen) counts.set(label, (counts.get(label) ?? 0) + 1);
  const parts = [...counts].map(([label, count]) => {
    if (count > 1) return `${count} ${pluralOf(label)}`;
    return Object.hasOwn(SINGULARS, label) ? SINGULARS[label] : `${/^[aeio]|^umb/i.test(label) ? "an" : "a"} ${label}`;
  });
  const last = parts.pop();
  const text = parts.length ? `${parts.join(", ")} and ${last}` : last;
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}

/**
 * "2.3 of 5.1 MB", or only the received amount if the total is unknown.
 * @param {{ loaded: number, total?: number }} progress
 */
export function megabytes({ loaded, total }) {
  const text = (bytes) => (bytes / 1e6).toFixed(1);
  return total ? `${text(loaded)} of ${text(total)} MB` : `${text(loaded)} MB`;
}

/**
 * @param {number} milliseconds
 */
export function duration(milliseconds) {
  return milliseconds < 10 ? `${milliseconds.toFixed(1)} ms` : `${Math.round(milliseconds)} ms`;
}
