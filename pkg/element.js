// <micro-yolo>: wraps an image or a video and shows boxes over it. Types: element.d.ts.
import { newElement } from "./canvas.js";
import { createPalette, drawObjects } from "./draw.js";
import { MicroYoloError } from "./error.js";
import { Detector } from "./index.js";
import { fromRight, movesByScroll, overlay, placedIn } from "./overlay.js";
import { isUnturned, unturnedImage } from "./source.js";

/** @typedef {HTMLImageElement | HTMLVideoElement | HTMLCanvasElement} Media */

const MEDIA = "img, video, canvas";
/** Milliseconds after which an element that is scaled to nothing is measured again. */
const SCALED_AWAY = 100;

/** All elements of a page use the same colour for a class. */
const color = createPalette();

/**
 * @type {Map<string, { detector: Promise<Detector>, users: number, stop: AbortController }>} One detector for each model, input size and number
 * of threads, shared by all elements.
 */
const shared = new Map();

/**
 * @param {import("./index.js").LoadOptions} options
 * @returns {{ detector: Promise<Detector>, release: () => void, forget: () => void }}
 */
function acquire(options) {
  const key = JSON.stringify(options);
  let entry = shared.get(key);
  if (!entry) {
    const stop = new AbortController();
    const detector = Detector.load({ ...options, signal: stop.signal });
    entry = { detector, users: 0, stop };
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
    forget,
    release() {
      if (released) return;
      released = true;
      mine.users -= 1;
      if (mine.users > 0) return;
      // Delayed, because moving or re-rendering an element removes it and inserts it again.
      setTimeout(() => {
        if (mine.users > 0) return;
        forget();
        mine.stop.abort(); // It may still be loading.
        mine.detector.then(
          (detector) => detector.dispose(),
          () => {},
        );
      });
    },
  };
}

const STYLE = `
  :host { display: inline-block; position: relative }
  :host([hidden]) { display: none }
  @supports (content-visibility: hidden) {
    :host([hidden="until-found" i]) { display: inline-block; content-visibility: hidden }
  }
  ::slotted(:is(${MEDIA})) { vertical-align: bottom }
  canvas { position: absolute; left: 0; top: 0; width: 0; height: 0; pointer-events: none; transform-origin: 0 0 }
`;

/** Does not extend HTMLElement if that does not exist, so that the module can be imported on a server. */
const Base = /** @type {typeof HTMLElement} */ (typeof HTMLElement === "function" ? HTMLElement : class {});

/** Properties and the attributes that they reflect. */
const ATTRIBUTES = {
  classes: "classes",
  inputSize: "input-size",
  model: "model",
  scoreThreshold: "score-threshold",
  threads: "threads",
  track: "track",
};

/** Documented in element.d.ts. */
export class MicroYoloElement extends Base {
  static observedAttributes = Object.values(ATTRIBUTES);

  /** @type {readonly import("./index.js").DetectedObject[]} */
  #objects = [];
  /** @type {AbortController | undefined} */
  #running;
  /** @type {HTMLCanvasElement} */
  #canvas;
  /** @type {{ width: number, height: number }} */
  #size = { width: 0, height: 0 };
  /** The distances of the canvas from two sides of the element: from this one, and from the top. */
  #side = "left";
  #place = { x: 0, y: 0 };
  #slot;
  /** @type {Media | undefined} What is looked at. */
  #media;
  /** @type {Media | undefined} In which the objects are. */
  #seen;
  /** @type {boolean | undefined} Whether it was looked at without the orientation in its file. */
  #unturned;
  /** Whether the detector crashed. Another one is then loaded for the next picture. */
  #crashed = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} Draws again. */
  #later;
  /** Prevents other elements from sharing the detector. */
  #forget = () => {};

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    this.#slot = newElement(document, "slot");
    this.#canvas = newElement(document, "canvas");
    this.#canvas.setAttribute("part", "boxes");
    this.#canvas.setAttribute("aria-hidden", "true");
    root.append(this.#slot, this.#canvas);
    this.#slot.addEventListener("slotchange", () => this.#changed());
  }

  /** The objects found last. */
  get objects() {
    return this.#objects;
  }

  // Solid, Lit and Angular set properties. Svelte sets `false` as text if there is no such property.
  get classes() {
    return this.getAttribute("classes") ?? "";
  }

  set classes(value) {
    this.#reflect("classes", value);
  }

  get inputSize() {
    return this.getAttribute("input-size") ?? "";
  }

  set inputSize(value) {
    this.#reflect("inputSize", value);
  }

  get model() {
    return this.getAttribute("model") ?? "";
  }

  set model(value) {
    this.#reflect("model", value);
  }

  get scoreThreshold() {
    return Number(this.getAttribute("score-threshold")?.trim() || 0.25);
  }

  set scoreThreshold(value) {
    this.#reflect("scoreThreshold", value);
  }

  get threads() {
    return Number(this.getAttribute("threads")?.trim() || 1);
  }

  set threads(value) {
    this.#reflect("threads", value);
  }

  get track() {
    return this.hasAttribute("track");
  }

  set track(value) {
    const given = /** @type {unknown} */ (value);
    this.#reflect("track", given || given === "" ? "" : null); // Frameworks pass on "" where the attribute has no value.
  }

  /**
   * @param {keyof typeof ATTRIBUTES} property
   * @param {unknown} value
   */
  #reflect(property, value) {
    // Frameworks set `undefined` if a property is omitted.
    if (value === undefined || value === null) this.removeAttribute(ATTRIBUTES[property]);
    else this.setAttribute(ATTRIBUTES[property], String(value));
  }

  connectedCallback() {
    for (const property of /** @type {(keyof typeof ATTRIBUTES)[]} */ (Object.keys(ATTRIBUTES))) {
      if (!Object.hasOwn(this, property)) continue;
      // The property was set before the element was defined, and hides the accessor.
      const { [property]: value } = this;
      Reflect.deleteProperty(this, property);
      Reflect.set(this, property, value);
    }
    // Not a <style> element, which a content security policy may forbid. jsdom supports none of this and shows nothing.
    // A style sheet belongs to one document: if the element moves to another (a picture-in-picture window), it is left
    // behind.
    const root = /** @type {ShadowRoot} */ (this.shadowRoot);
    const Sheet = this.ownerDocument.defaultView?.CSSStyleSheet;
    if (Sheet && root.adoptedStyleSheets?.length === 0) {
      const style = new Sheet();
      style.replaceSync(STYLE);
      root.adoptedStyleSheets = [style];
    }
    this.#restart();
  }

  disconnectedCallback() {
    this.#stop();
  }

  /** Moved by moveBefore(): nothing inside restarts. */
  connectedMoveCallback() {
    this.#changed();
  }

  attributeChangedCallback() {
    if (this.isConnected) this.#restart();
  }

  #stop() {
    this.#running?.abort();
    this.#running = undefined;
    this.#media = undefined;
  }

  /** The first picture or video inside, at any depth: in a link, a figure, a <picture>, a component. */
  #find() {
    for (const one of this.#slot.assignedElements({ flatten: true })) {
      const found = one.matches(MEDIA) ? one : mediaIn(one);
      if (found) return /** @type {Media} */ (found);
    }
  }

  /** Something inside was replaced or moved. */
  #changed() {
    const media = this.#media;
    const image = media && "naturalWidth" in media ? media : undefined;
    const turned = image && this.#unturned !== undefined && isUnturned(image) !== this.#unturned;
    if (this.#find() !== media || turned) this.#restart();
    else if (image?.complete && !image.naturalWidth) this.#clear(); // Its source is gone.
    else this.#draw();
  }

  #restart() {
    const before = this.#running;
    this.#running = this.#media = this.#unturned = undefined;
    this.#crashed = false;
    if (this.isConnected) {
      const { signal } = (this.#running = new AbortController());
      this.#media = this.#find();
      this.#follow(signal);
      if (this.#media) void this.#run(this.#media, signal);
    }
    before?.abort(); // Not earlier, or a shared detector would be loaded again.
  }

  /**
   * Draws again whenever the picture may have moved.
   * @param {AbortSignal} signal
   */
  #follow(signal) {
    const mutations = new MutationObserver(() => this.#changed());
    const inside = this.#slot.assignedElements({ flatten: true }).flatMap((one) => [one, ...one.querySelectorAll("*")]);
    for (const root of [this, ...rootsOf(inside)]) mutations.observe(root, { subtree: true, childList: true, attributes: true });
    // A component that is defined later gets its shadow tree without any event.
    for (const one of inside.filter((one) => one.matches(":not(:defined)"))) {
      const name = one.getAttribute("is") ?? one.localName;
      // An undefinable name rejects: in a DOM for tests (happy-dom) an <img> may count as not defined.
      customElements.whenDefined(name).then(
        () => signal.aborted || this.#restart(),
        () => {},
      );
    }
    signal.addEventListener("abort", () => mutations.disconnect());
    if (typeof ResizeObserver === "function") {
      const sizes = new ResizeObserver(() => this.#draw());
      sizes.observe(this);
      if (this.#media) sizes.observe(this.#media);
      signal.addEventListener("abort", () => sizes.disconnect());
    }
    // Closing a frame or window does not disconnect its elements. A page in the back/forward cache continues.
    const closed = (/** @type {PageTransitionEvent} */ { persisted }) => persisted || this.#stop();
    const { defaultView } = this.ownerDocument; // It may be a picture-in-picture window.
    defaultView?.addEventListener("pagehide", closed, { signal });
    defaultView?.addEventListener("resize", () => this.#draw(), { signal });
    // In print, the picture has another position and size.
    const printed = () => {
      this.#canvas.width = 0; // Cleared by the new size: see draw.js.
      this.#draw();
    };
    defaultView?.matchMedia?.("print")?.addEventListener?.("change", printed, { signal });
    this.addEventListener("scroll", () => this.#draw(), { signal, capture: true }); // An inner element may scroll, and the event does not bubble.
    for (const { one, root } of treesAround(this)) {
      const ended = (/** @type {Event} */ { target }) => target !== one && /** @type {Node} */ (target).contains(one) && this.#draw();
      // It may have turned over: the side of it that is seen decides how labels are to be read.
      for (const event of ["transitionend", "transitioncancel", "animationend", "animationcancel"]) {
        root.addEventListener(event, ended, { signal });
      }
      const scrolled = () => this.#media && movesByScroll(this.#media, this) && this.#draw();
      root.addEventListener("scroll", scrolled, { signal, capture: true, passive: true });
    }
    let moving = false;
    const move = () => {
      this.#draw();
      moving = !signal.aborted && this.getAnimations({ subtree: true }).some(({ playState }) => playState === "running");
      if (moving) requestAnimationFrame(move);
    };
    for (const event of ["transitionrun", "animationstart"]) {
      this.addEventListener(event, () => moving || move(), { signal });
    }
  }

  /** The options for loading, from the attributes. */
  get #options() {
    /** @type {import("./index.js").LoadOptions} */
    const options = {};
    const model = this.getAttribute("model");
    const size = this.getAttribute("input-size");
    const threads = this.getAttribute("threads")?.trim();
    if (model) options.model = model;
    if (threads) options.threads = /** @type {any} */ (Number(threads) || threads); // If it is not a number, the error shows the text.
    if (size) {
      const [, width, height = width] = /^\s*(\d+)(?:\s*[x×]\s*(\d+))?\s*$/.exec(size) ?? [];
      if (!width) throw new MicroYoloError("invalid-option", `input-size must be like "320" or "320x224", not "${size}"`);
      options.inputSize = { width: Number(width), height: Number(height) };
    }
    return options;
  }

  /**
   * Whether an object is to be shown, according to the attributes.
   * @param {readonly string[]} labels
   * @returns {(object: import("./index.js").DetectedObject) => boolean}
   */
  #filter(labels) {
    const { scoreThreshold } = this;
    if (!(scoreThreshold >= 0 && scoreThreshold <= 1)) {
      const text = this.getAttribute("score-threshold");
      throw new MicroYoloError("invalid-option", `score-threshold must be a number from 0 to 1, not "${text}"`);
    }
    const classes = (this.getAttribute("classes") ?? "")
      .split(",")
      .map((one) => one.trim())
      .filter(Boolean);
    const number = (/** @type {string} */ one) => (/^\d+$/.test(one) ? Number(one) : NaN);
    const unknown = classes.find((one) => !labels.includes(one) && !(number(one) < labels.length));
    if (unknown !== undefined) throw new MicroYoloError("invalid-option", `the model has no class ${unknown}`);
    return ({ score, label, classId }) =>
      score >= scoreThreshold && (!classes.length || classes.some((one) => one === label || number(one) === classId));
  }

  /**
   * @param {Media} media
   * @param {AbortSignal} signal
   */
  async #run(media, signal) {
    await null; // Other attributes may be set next, each of which starts anew.
    if (signal.aborted) return;
    try {
      const { detector: loading, release, forget } = acquire(this.#options);
      this.#forget = forget;
      signal.addEventListener("abort", release);
      const detector = await loading;
      if (signal.aborted) return;
      // The detector is shared, so its settings must not be changed.
      const filter = this.#filter(detector.labels);
      if ("srcObject" in media) await this.#watch(media, detector, filter, signal);
      else await this.#look(media, detector, filter, signal);
    } catch (error) {
      await null; // The caller that inserted the element can add listeners first.
      this.#fail(error, signal);
      if (error instanceof MicroYoloError && error.code === "network") this.#retry(media, signal);
    }
  }

  /**
   * Loads again for the next picture, because the network may be back.
   * @param {Media & { currentSrc?: string, srcObject?: unknown }} media
   * @param {AbortSignal} signal
   */
  #retry(media, signal) {
    const { currentSrc, srcObject } = media;
    // The event of the picture that is already there may still arrive.
    const again = () => (media.currentSrc === currentSrc && media.srcObject === srcObject) || this.#restart();
    for (const event of ["load", "loadeddata"]) media.addEventListener(event, again, { signal });
  }

  /**
   * @param {HTMLImageElement | HTMLCanvasElement} media
   * @param {Detector} detector
   * @param {ReturnType<MicroYoloElement["#filter"]>} filter
   * @param {AbortSignal} signal
   */
  async #look(media, detector, filter, signal) {
    const isImage = "naturalWidth" in media;
    /** @type {string | false | undefined} The address of the picture whose objects are looked for. */
    let looking;
    /** @param {Event} [event] */
    const look = async (event) => {
      // The event of a picture that was already complete or broken may still arrive.
      const same = event && isImage && media.currentSrc === begun.src && event.timeStamp < begun.at + 1000;
      if (event) begun.src = "";
      // So may the event of a picture that the page set in an earlier event, if the browser had it in its cache.
      if (same || (event?.type === "load" && isImage && media.currentSrc === looking)) return;
      if (this.#crashed) return this.#restart();
      if (isImage && !media.complete) return; // Another picture is loading, which will have its own event.
      // Read before detection: the page may show another picture before the objects are found.
      const src = isImage && media.currentSrc;
      looking = src;
      try {
        const { naturalWidth: width = media.width, naturalHeight: height = media.height } = /** @type {HTMLImageElement} */ (media);
        this.#unturned = isImage && isUnturned(media);
        const unturned = isImage && width ? unturnedImage(media) : undefined;
        const objects = await detector.detect(media, { signal });
        if (signal.aborted || (isImage && media.currentSrc !== src)) return;
        this.#show(objects.filter(filter), unturned ?? { width, height });
      } catch (error) {
        this.#fail(error, signal);
      } finally {
        if (looking === src) looking = undefined;
      }
    };
    const begun = { src: isImage && media.complete ? media.currentSrc : "", at: performance.now() };
    // A new `src` is a new picture. In a <picture> the browser may choose another one at any time.
    for (const event of ["load", "error"]) media.addEventListener(event, look, { signal });
    if (!isImage || begun.src) await look();
  }

  /**
   * @param {HTMLVideoElement} video
   * @param {Detector} detector
   * @param {ReturnType<MicroYoloElement["#filter"]>} filter
   * @param {AbortSignal} signal
   */
  async #watch(video, detector, filter, signal) {
    while (!signal.aborted) {
      try {
        for await (const { objects, frame } of detector.watch(video, { signal, track: this.hasAttribute("track") })) {
          this.#show(objects.filter(filter), frame);
        }
      } catch (error) {
        this.#fail(error, signal);
      }
      if (!video.readyState) this.#clear(); // Its source was removed.
      // The video ended or failed. It may be played again, or another video may be set, which may fail too.
      await new Promise((resolve) => {
        for (const event of ["play", "seeked", "loadeddata", "error"]) {
          video.addEventListener(event, resolve, { once: true, capture: true, signal });
        }
        signal.addEventListener("abort", resolve);
      });
      if (this.#crashed && !signal.aborted) return this.#restart();
    }
  }

  /**
   * @param {import("./index.js").DetectedObject[]} objects
   * @param {{ width: number, height: number }} size
   */
  #show(objects, { width, height }) {
    this.#objects = objects;
    this.#seen = this.#media;
    this.#size = { width, height };
    this.#draw();
    this.dispatchEvent(new CustomEvent("detect", { detail: { objects, width, height } }));
  }

  #clear() {
    this.#objects = [];
    this.#draw();
  }

  #draw() {
    if (!this.#size.width) return; // Nothing has been shown yet.
    const place = this.#media && overlay(this.#media, placedIn(this.#canvas, this), this.#size);
    const { width = 0, height = 0, transform = "none" } = place ?? {};
    const { style } = this.#canvas;
    Object.assign(style, { width: `${width}px`, height: `${height}px`, transform });
    let isAway = false;
    if (place) {
      const side = fromRight(this.#canvas, this) ? "right" : "left";
      if (this.#side !== side) {
        this.#side = side;
        this.#place = { x: 0, y: 0 };
        Object.assign(style, { left: "auto", right: "auto", [side]: "0", top: "0" });
      }
      const away = place.distance(this.#canvas);
      // No event tells when something around it grows from nothing.
      isAway = !away && this.#canvas.getClientRects().length > 0;
      if (isAway) {
        clearTimeout(this.#later);
        this.#later = setTimeout(() => this.#draw(), SCALED_AWAY);
      }
      const { x, y } = away ?? { x: 0, y: 0 };
      // Less is not seen, and an unchanged style needs no layout.
      if (Math.hypot(x, y) > 0.05) {
        this.#place.x += side === "right" ? -x : x;
        this.#place.y += y;
        Object.assign(style, { [side]: `${this.#place.x}px`, top: `${this.#place.y}px` });
      }
    }
    // Another picture may have taken the place of theirs.
    const isTheirs = place && !isAway && this.#seen === this.#media && !showsPoster(this.#media);
    const objects = isTheirs ? this.#objects.map((object) => ({ ...object, box: place.place(object.box) })) : [];
    drawObjects(this.#canvas, objects, { width, height, color });
  }

  /**
   * @param {unknown} error
   * @param {AbortSignal} signal
   */
  #fail(error, signal) {
    if (signal.aborted) return; // Removed, or showing another picture: errors of the old work do not matter.
    this.#clear();
    if (error instanceof MicroYoloError && error.code === "crashed") {
      this.#crashed = true;
      this.#forget(); // The next elements share a new one.
    }
    const shown = this.dispatchEvent(new CustomEvent("detect-error", { detail: { error }, cancelable: true }));
    if (shown) console.error(error);
  }
}

/**
 * Whether a video shows its poster and no frame, as it does until it is played or sought.
 * @param {Media & Partial<HTMLVideoElement>} media
 */
function showsPoster({ poster, paused, played, currentTime }) {
  return Boolean(poster && paused && !played?.length && !currentTime);
}

/**
 * @param {ParentNode} root
 * @returns {Element | null | undefined}
 */
function mediaIn(root) {
  const found = root.querySelector(MEDIA);
  if (found) return found;
  const elements = [...root.querySelectorAll("*")];
  if ("matches" in root) elements.unshift(/** @type {Element} */ (root)); // Not with `instanceof`: it may belong to another document.
  for (const one of elements) {
    // The element's own shadow tree has a canvas too.
    const deeper = one.shadowRoot && !(one instanceof MicroYoloElement) && mediaIn(one.shadowRoot);
    if (deeper) return deeper;
  }
}

/**
 * The document and shadow trees around an element, each with the element in it that contains that element, or is it.
 * @param {Element} element
 */
function treesAround(element) {
  const trees = [];
  for (let one = element, root = one.getRootNode(); ; root = one.getRootNode()) {
    trees.push({ one, root });
    if (!("host" in root)) return trees;
    one = /** @type {ShadowRoot} */ (root).host;
  }
}

/**
 * The open shadow trees of elements, and those inside them.
 * @param {Element[]} elements
 * @returns {ShadowRoot[]}
 */
function rootsOf(elements) {
  return elements.flatMap(({ shadowRoot }) => (shadowRoot ? [shadowRoot, ...rootsOf([...shadowRoot.querySelectorAll("*")])] : []));
}

if (typeof customElements === "object" && !customElements.get("micro-yolo")) {
  customElements.define("micro-yolo", MicroYoloElement);
}
