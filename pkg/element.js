// <micro-yolo>: wraps an image or a video and shows boxes over it. Types: element.d.ts.
import { drawObjects } from "./draw.js";
import { MicroYoloError } from "./error.js";
import { Detector } from "./index.js";

/** @type {Map<string, { detector: Promise<Detector>, users: number }>} One detector a model, shared by all elements. */
const shared = new Map();

/**
 * @param {string | undefined} model
 * @returns {{ detector: Promise<Detector>, release: () => void }}
 */
function acquire(model) {
  const key = model ?? "";
  let entry = shared.get(key);
  if (!entry) {
    const detector = Detector.load(model === undefined ? {} : { model });
    entry = { detector, users: 0 };
    shared.set(key, entry);
    detector.catch(() => forget());
  }
  const mine = entry;
  mine.users += 1;
  const forget = () => {
    if (shared.get(key) === mine) shared.delete(key);
  };
  let released = false;
  return {
    detector: mine.detector,
    release() {
      if (released) return;
      released = true;
      mine.users -= 1;
      if (mine.users > 0) return;
      forget();
      mine.detector.then(
        (detector) => detector.dispose(),
        () => {},
      );
    },
  };
}

const STYLE = `
  :host { display: inline-block; position: relative; line-height: 0 }
  :host([hidden]) { display: none }
  canvas { position: absolute; pointer-events: none }
`;

/** Not extending HTMLElement where there is none, so that the module can be imported on a server. */
const Base = /** @type {typeof HTMLElement} */ (typeof HTMLElement === "function" ? HTMLElement : class {});

/** Documented in element.d.ts. */
export class MicroYoloElement extends Base {
  static observedAttributes = ["model", "score-threshold", "track"];

  /** @type {readonly import("./index.js").DetectedObject[]} */
  #objects = [];
  /** @type {AbortController | undefined} */
  #running;
  /** @type {HTMLCanvasElement} */
  #canvas;
  /** @type {{ width: number, height: number }} */
  #size = { width: 0, height: 0 };
  #slot;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    // Not a <style> element, which a content security policy may forbid.
    const style = new CSSStyleSheet();
    style.replaceSync(STYLE);
    root.adoptedStyleSheets = [style];
    this.#slot = document.createElement("slot");
    this.#canvas = document.createElement("canvas");
    this.#canvas.setAttribute("part", "boxes");
    this.#canvas.setAttribute("aria-hidden", "true");
    root.append(this.#slot, this.#canvas);
    this.#slot.addEventListener("slotchange", () => this.#restart());
  }

  /** The objects found last. */
  get objects() {
    return this.#objects;
  }

  get scoreThreshold() {
    const text = this.getAttribute("score-threshold");
    return text === null ? 0.25 : Number(text);
  }

  set scoreThreshold(value) {
    this.setAttribute("score-threshold", String(value));
  }

  connectedCallback() {
    this.#restart();
  }

  disconnectedCallback() {
    this.#stop();
  }

  attributeChangedCallback() {
    if (this.isConnected) this.#restart();
  }

  #stop() {
    this.#running?.abort();
    this.#running = undefined;
  }

  #restart() {
    this.#stop();
    const media = this.#slot.assignedElements().find((one) => /^(IMG|VIDEO|CANVAS)$/.test(one.tagName));
    if (!media || !this.isConnected) return;
    const controller = new AbortController();
    this.#running = controller;
    void this.#run(/** @type {HTMLImageElement | HTMLVideoElement | HTMLCanvasElement} */ (media), controller.signal);
  }

  /**
   * @param {HTMLImageElement | HTMLVideoElement | HTMLCanvasElement} media
   * @param {AbortSignal} signal
   */
  async #run(media, signal) {
    const { detector: loading, release } = acquire(this.getAttribute("model") ?? undefined);
    signal.addEventListener("abort", release);
    const observer = new ResizeObserver(() => this.#draw(media));
    observer.observe(media);
    signal.addEventListener("abort", () => observer.disconnect());
    try {
      const detector = await loading;
      if (signal.aborted) return;
      const scoreThreshold = this.scoreThreshold;
      checkThreshold(scoreThreshold);
      if (media instanceof HTMLVideoElement) {
        for await (const { objects, frame } of detector.watch(media, { signal, track: this.hasAttribute("track") })) {
          this.#show(media, objects, frame, scoreThreshold);
        }
        return;
      }
      const look = async () => {
        const objects = await detector.detect(media, { signal });
        const width = media instanceof HTMLImageElement ? media.naturalWidth : media.width;
        const height = media instanceof HTMLImageElement ? media.naturalHeight : media.height;
        this.#show(media, objects, { width, height }, scoreThreshold);
      };
      // A new `src` is a new picture.
      media.addEventListener("load", () => look().catch((error) => this.#fail(error, signal)), { signal });
      if (media instanceof HTMLImageElement && !(media.complete && media.naturalWidth)) return;
      await look();
    } catch (error) {
      this.#fail(error, signal);
    }
  }

  /**
   * @param {HTMLElement} media
   * @param {import("./index.js").DetectedObject[]} objects
   * @param {{ width: number, height: number }} size
   * @param {number} scoreThreshold
   */
  #show(media, objects, { width, height }, scoreThreshold) {
    // The detector is shared, so its own threshold is not ours to set.
    this.#objects = objects.filter((object) => object.score >= scoreThreshold);
    this.#size = { width, height };
    this.#draw(media);
    this.dispatchEvent(new CustomEvent("detect", { detail: { objects: this.#objects, width, height } }));
  }

  /** @param {HTMLElement} media */
  #draw(media) {
    const { style } = this.#canvas;
    style.left = `${media.offsetLeft}px`;
    style.top = `${media.offsetTop}px`;
    style.width = `${media.offsetWidth}px`;
    style.height = `${media.offsetHeight}px`;
    const fit = getComputedStyle(media).objectFit;
    drawObjects(this.#canvas, this.#objects, {
      ...this.#size,
      // A video is letterboxed by default, which its computed style says as well.
      fit: fit === "contain" || fit === "cover" ? fit : "fill",
    });
  }

  /**
   * @param {unknown} error
   * @param {AbortSignal} signal
   */
  #fail(error, signal) {
    if (signal.aborted) return; // Taken out, or looking at something else: whatever ended the old work is no news.
    this.#objects = [];
    const shown = this.dispatchEvent(new CustomEvent("detect-error", { detail: { error }, cancelable: true }));
    if (shown) console.error(error);
  }
}

/** @param {number} value */
function checkThreshold(value) {
  if (value >= 0 && value <= 1) return;
  throw new MicroYoloError("invalid-option", `score-threshold must be a number from 0 to 1, not ${value}`);
}

if (typeof customElements === "object" && !customElements.get("micro-yolo")) {
  customElements.define("micro-yolo", MicroYoloElement);
}
