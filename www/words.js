// What the page says: sentences for errors, and the summary that a screen reader speaks. No DOM, so that Node tests it.

/** For each code of the package, what a visitor can do about it. */
const SENTENCES = {
  "no-simd": "This browser is too old for the detector: its WebAssembly has no SIMD. Any browser since 2023 works.",
  unsupported: "This browser lacks something the detector needs. A current Chrome, Edge, Firefox or Safari works.",
  network: "The detector could not be loaded. Are you connected? Then try again.",
  "worker-failed": "The browser did not start the detector's background worker. Is an extension blocking scripts?",
  "invalid-engine": "The detector's program arrived damaged. Reload the page; if that does not help, the site is broken.",
  "invalid-model": "The neural network arrived damaged. Reload the page; if that does not help, the site is broken.",
  "unsupported-model": "The neural network on this site is not one that this page can run.",
  "needs-tract": "The neural network on this site is not one that this page can run.",
  "unsupported-operator": "The neural network on this site is not one that this page can run.",
  "invalid-image": "That is not a picture or video this browser can open, or the file is damaged.",
  "image-too-large": "That picture is too large. Make it smaller than 16,384 pixels a side.",
  tainted: "That picture belongs to another site, which does not let this page read it. Save it, then choose the file.",
  "not-loaded": "That picture has not finished loading. Try again in a moment.",
  crashed: "The detector crashed. That should not happen; try again, and please report the picture if it comes back.",
};

/**
 * A sentence that helps, for any error that may reach a visitor.
 * @param {unknown} error
 */
export function explain(error) {
  const { code, message } = /** @type {{ code?: string, message?: string }} */ (error ?? {});
  return SENTENCES[code] ?? `Something went wrong: ${message ?? error}`;
}

/** For each way in which a browser refuses a camera. */
const CAMERA_SENTENCES = {
  NotAllowedError:
    "The camera is not allowed for this page. Allow it beside the address, or in the system's privacy settings, and try again.",
  SecurityError: "This browser forbids the camera here. A picture or a video file works all the same.",
  NotFoundError: "No camera was found. Connect one, or choose a picture instead.",
  NotReadableError: "The camera is in use by another program. Close that and try again.",
  AbortError: "The camera could not be started. Try again, or choose a picture instead.",
};

/**
 * @param {unknown} error
 */
export function explainCamera(error) {
  const { name, message } = /** @type {{ name?: string, message?: string }} */ (error ?? {});
  return CAMERA_SENTENCES[name] ?? `The camera could not be started: ${message ?? error}`;
}

/** Words whose plural is not made with an "s", among COCO's. */
const PLURALS = {
  person: "people",
  bus: "buses",
  bench: "benches",
  sheep: "sheep",
  skis: "pairs of skis",
  "wine glass": "wine glasses",
  knife: "knives",
  sandwich: "sandwiches",
  couch: "couches",
  mouse: "mice",
  toothbrush: "toothbrushes",
  scissors: "pairs of scissors",
  broccoli: "pieces of broccoli",
  "hair drier": "hair driers",
};

const SINGULARS = { skis: "a pair of skis", scissors: "a pair of scissors", broccoli: "broccoli" };

/**
 * "a cat and 2 people"
 * @param {readonly { label: string }[]} objects
 */
export function summary(objects) {
  if (objects.length === 0) return "Nothing that it knows.";
  const counts = new Map();
  for (const { label } of objects) counts.set(label, (counts.get(label) ?? 0) + 1);
  const parts = [...counts].map(([label, count]) => {
    if (count > 1) return `${count} ${PLURALS[label] ?? `${label}s`}`;
    return SINGULARS[label] ?? `${/^[aeio]|^umb/.test(label) ? "an" : "a"} ${label}`;
  });
  const last = parts.pop();
  const text = parts.length ? `${parts.join(", ")} and ${last}` : last;
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}

/**
 * "2.3 of 5.1 MB", or only what has come where the whole is unknown.
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
