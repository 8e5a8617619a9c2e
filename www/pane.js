// The view of one model: its detector, boxes, list, sentence and times. The page has one view, or two in a comparison.
import { Detector } from "./pkg/index.js";
import { contained } from "./layout.js";
import { drawBoxes, newCanvas } from "./overlay.js";
import { objectAt, sift } from "./results.js";
import { Steady } from "./steady.js";
import { PARTS, Timing, drawPlot, sum } from "./timing.js";
import { Trails } from "./trails.js";
import { duration, megabytes, percent, summary } from "./words.js";

/** The detector's score threshold. The slider hides the other objects without another detection. */
const LEAST_SCORE = 0.1;
/** Milliseconds between updates of the numbers: faster changes cannot be read. */
const NUMBERS_MS = 250;
/** Two threads if the page is cross-origin isolated and the machine has enough cores. */
const threads = globalThis.crossOriginIsolated && navigator.hardwareConcurrency >= 4 ? 2 : 1;

const IDS = ["stage", "frame", "boxes", "tag", "loading", "loading-text", "progress", "result", "name", "summary", "list"];
IDS.push("time", "rate", "plot", "pixels-time", "network-time", "boxes-time", "draw-time", "plot-top", "build");

export class Pane {
  /** @type {Promise<Detector>} */
  detector = Promise.reject(new Error("no model yet"));
  /** @type {import("./models.js").Model | undefined} */
  model;
  labels = [];
  /** @type {(() => void) | undefined} says again why its model could not be loaded */
  sayFailure;
  /** The time of the processed frame of a video, in seconds. */
  time = 0;
  /** @type {{ seen: import("./results.js").Settled[], unsure: import("./results.js").Settled[] }} */
  found = { seen: [], unsure: [] };
  /** What found it: the name of the model, and its classes. Another model may be loading meanwhile. */
  by = { model: "", labels: [] };
  timing = new Timing();

  #elements;
  #color;
  #settings;
  #raw = [];
  #size = { width: 0, height: 0 };
  #mirrored = false;
  #trails = new Trails();
  #steady = new Steady();
  #loading = new AbortController();
  /** @type {number | undefined} which of the list is pointed at */
  #highlighted;
  #numbersAt = -Infinity;

  /**
   * @param {string} suffix of the ids of its elements
   * @param {{ color: (object: { label: string }) => string, settings: () => import("./settings.js").Settings }} page
   */
  constructor(suffix, { color, settings }) {
    const entries = IDS.map((id) => [id, document.getElementById(id + suffix)]);
    /** @type {Record<string, any>} */
    this.#elements = Object.fromEntries(entries);
    this.#color = color;
    this.#settings = settings;
    this.detector.catch(() => {});
    this.#listen();
    new ResizeObserver(() => this.draw()).observe(this.#elements.stage);
  }

  get size() {
    return this.#size;
  }

  get frame() {
    return this.#elements.frame;
  }

  /**
   * Loads a model in place of the current one.
   * @param {import("./models.js").Model | Promise<import("./models.js").Model>} model
   * @param {number} inputSize 0 for the model's own
   * @returns {Promise<Detector>} also as `detector`
   */
  load(model, inputSize) {
    this.#loading.abort();
    this.#loading = new AbortController();
    const { signal } = this.#loading;
    this.detector.then(
      (old) => old.dispose(),
      () => {},
    );
    this.model = undefined;
    this.#elements.build.textContent = "";
    this.detector = this.#loaded(model, inputSize, signal);
    this.detector.catch(() => {}); // Users of the promise get the error.
    return this.detector;
  }

  async #loaded(promised, inputSize, signal) {
    const { loading, "loading-text": text, progress: bar, build, name, tag } = this.#elements;
    loading.hidden = false;
    bar.removeAttribute("value");
    text.textContent = "Loading the detector";
    try {
      const model = await promised;
      if (signal.aborted) throw signal.reason;
      this.model = model;
      name.textContent = tag.textContent = model.name;
      const detector = await Detector.load({
        ...(model.source === undefined ? {} : { model: model.source }),
        ...(inputSize ? { inputSize } : {}),
        scoreThreshold: LEAST_SCORE,
        iouThreshold: this.#settings().iou / 100,
        threads,
        signal,
        onProgress(progress) {
          const done = progress.loaded === progress.total;
          text.textContent = done ? "Getting the detector ready" : `Loading the detector: ${megabytes(progress)}`;
          if (progress.total) {
            bar.max = progress.total;
            bar.value = progress.loaded;
          } else {
            bar.removeAttribute("value");
          }
        },
      });
      try {
        // The first run of a network allocates its memory, so it is done before the first frame.
        await detector.detect({ data: new Uint8Array(32 * 32 * 4), width: 32, height: 32 });
        if (signal.aborted) throw signal.reason;
      } catch (error) {
        detector.dispose();
        throw error;
      }
      this.labels = detector.labels;
      const { width, height } = detector.inputSize;
      const count = detector.threads === 1 ? "1 thread" : `${detector.threads} threads`;
      build.textContent = `${width} × ${height} px, ${BUILDS[detector.build] ?? detector.build}, ${count}`;
      return detector;
    } finally {
      if (!signal.aborted) loading.hidden = true;
    }
  }

  /** Ends the detector after a comparison. */
  unload() {
    this.#loading.abort();
    this.#elements.loading.hidden = true;
    this.detector.then(
      (old) => old.dispose(),
      () => {},
    );
    this.detector = Promise.reject(new Error("no model yet"));
    this.detector.catch(() => {});
    this.model = undefined;
    this.begin({ mirrored: false });
  }

  /**
   * Starts with another source.
   * @param {{ mirrored: boolean, saying?: string }} what
   */
  begin({ mirrored, saying = "" }) {
    this.#raw = [];
    this.#size = { width: 0, height: 0 };
    this.#mirrored = mirrored;
    this.#highlighted = undefined;
    this.again();
    this.refresh();
    this.#elements.summary.textContent = saying;
    this.#elements.frame.hidden = true;
    this.#showNumbers();
  }

  /** Removes the results, because an error is shown: they are of another model, or of an earlier frame. */
  giveUp() {
    this.begin({ mirrored: this.#mirrored, saying: "Nothing yet." });
  }

  /** Detects again in the same source, for example with another model. */
  again() {
    this.timing = new Timing();
    this.#trails.clear();
    this.#steady.clear();
    this.#numbersAt = -Infinity;
  }

  /**
   * Shows the results.
   * @param {import("./pkg/index.js").DetectedObject[]} objects
   * @param {{ width: number, height: number }} size of the picture
   * @param {{ milliseconds: number, timing?: { network: number, boxes: number }, time?: number }} frame how long it took, how
   *   long of this network and boxes, and of a video the frame's time in seconds
   */
  take(objects, size, { milliseconds, timing = { network: milliseconds, boxes: 0 }, time }) {
    this.#raw = time === undefined ? objects : this.#steady.add(objects, time);
    this.#size = size;
    this.by = { model: this.model?.name ?? "", labels: this.labels };
    if (time !== undefined) this.time = time;
    const started = performance.now();
    this.#sift();
    this.#trails.add(this.found.seen);
    this.#show();
    const now = performance.now();
    const { network, boxes } = timing;
    this.timing.add({ pixels: Math.max(0, milliseconds - network - boxes), network, boxes, draw: now - started }, now);
    if (now - this.#numbersAt >= NUMBERS_MS) {
      this.#numbersAt = now;
      this.#showNumbers();
    }
  }

  /** Updates after a change of threshold or classes. */
  refresh() {
    this.#sift();
    this.#show();
  }

  #sift() {
    const { score, classes } = this.#settings();
    this.found = sift(this.#raw, { score: score / 100, classes });
  }

  #show() {
    if (this.#size.width) this.#elements.summary.textContent = this.sentence();
    if (this.#highlighted !== undefined && this.#highlighted >= this.found.seen.length) this.#highlighted = undefined;
    this.#showList();
    this.draw();
  }

  /**
   * What was found, in one sentence.
   * @param {{ guesses?: boolean }} [options] whether it may name what is below the threshold
   */
  sentence({ guesses = true } = {}) {
    const { score, classes } = this.#settings();
    // The classes were chosen for another model.
    if (classes.length && !classes.some((one) => this.by.labels.includes(one))) return "This model knows none of the chosen classes.";
    return summary(this.found.seen, guesses ? this.found.unsure : [], score);
  }

  draw() {
    const { boxes } = this.#elements;
    drawBoxes(boxes, this.found.seen, {
      ...this.#size,
      color: this.#color,
      mirror: this.#mirrored,
      highlighted: this.#highlighted === undefined ? undefined : this.found.seen[this.#highlighted],
      trails: this.#shownTrails(),
    });
  }

  #shownTrails() {
    const { track, classes } = this.#settings();
    return track ? this.#trails.list().filter(({ label }) => !classes.length || classes.includes(label)) : [];
  }

  /**
   * Shows the processed picture or frame under the boxes, and over the video if there is one.
   * @param {CanvasImageSource} image
   * @param {{ width: number, height: number }} size
   */
  showFrame(image, { width, height }) {
    const { frame } = this.#elements;
    const scale = Math.min(1, 2000 / Math.max(width, height)); // A canvas of a large photograph would take much memory.
    const [w, h] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
    if (frame.width !== w) frame.width = w;
    if (frame.height !== h) frame.height = h;
    frame.getContext("2d").drawImage(image, 0, 0, w, h);
    frame.classList.toggle("mirrored", this.#mirrored);
    frame.hidden = false;
  }

  /**
   * Draws picture and boxes on a canvas for saving.
   * @param {CanvasImageSource} image
   */
  paint(image) {
    const { width, height } = this.#size;
    const canvas = newCanvas(width, height);
    const overlay = newCanvas(width, height);
    const context = canvas.getContext("2d");
    if (this.#mirrored) context.setTransform(-1, 0, 0, 1, width, 0);
    context.drawImage(image, 0, 0, width, height);
    context.resetTransform();
    // Lines have the same relative thickness as on the screen.
    const { clientWidth, clientHeight } = this.#elements.stage;
    const pixelRatio = Math.max(1, width / Math.max(1, clientWidth), height / Math.max(1, clientHeight));
    const trails = this.#shownTrails();
    drawBoxes(overlay, this.found.seen, { width, height, color: this.#color, mirror: this.#mirrored, pixelRatio, trails });
    context.drawImage(overlay, 0, 0);
    return canvas;
  }

  /** Rows are reused from frame to frame, so that the row under the mouse stays. */
  #showList() {
    const { list } = this.#elements;
    const { seen } = this.found;
    while (list.children.length > seen.length) list.lastElementChild.remove();
    while (list.children.length < seen.length) list.append(newRow(`${list.id}-${list.children.length}`));
    seen.forEach((object, index) => {
      const { label, score, trackId, rival } = object;
      const row = list.children[index];
      const [swatch, name, sure] = row.children;
      swatch.style.background = this.#color(object);
      write(name.firstChild, trackId === undefined ? label : `${label} #${trackId}`);
      write(name.lastChild, rival ? ` or ${rival.label} ${percent(rival.score * 100)}` : "");
      write(sure, percent(score * 100));
    });
    this.#showHighlighted();
  }

  #showHighlighted() {
    const { list } = this.#elements;
    [...list.children].forEach((row, index) => row.setAttribute("aria-selected", String(index === this.#highlighted)));
    if (this.#highlighted === undefined) list.removeAttribute("aria-activedescendant");
    else list.setAttribute("aria-activedescendant", list.children[this.#highlighted].id);
  }

  /** @param {number | undefined} index */
  #highlight(index) {
    if (index === this.#highlighted) return;
    this.#highlighted = index;
    this.#showHighlighted();
    this.draw();
  }

  #listen() {
    const { list, stage } = this.#elements;
    // A finger leaves when it is lifted: what was tapped stays marked.
    const leave = ({ pointerType }) => pointerType !== "touch" && this.#highlight(undefined);
    list.addEventListener("pointerover", ({ target }) => {
      const row = target.closest("[role=option]");
      this.#highlight(row ? [...list.children].indexOf(row) : undefined);
    });
    list.addEventListener("pointerleave", leave);
    list.addEventListener("blur", () => this.#highlight(undefined));
    list.addEventListener("keydown", (event) => {
      const last = this.found.seen.length - 1;
      const at = this.#highlighted;
      const to = {
        ArrowDown: () => (at === undefined ? 0 : Math.min(last, at + 1)),
        ArrowUp: () => (at === undefined ? last : Math.max(0, at - 1)),
        Home: () => 0,
        End: () => last,
        Escape: () => undefined,
      }[event.key];
      if (!to || last < 0) return;
      event.preventDefault();
      this.#highlight(to());
      list.children[this.#highlighted]?.scrollIntoView({ block: "nearest" });
    });
    const point = ({ clientX, clientY }) => {
      const { width, height } = this.#size;
      if (!width) return;
      const bounds = stage.getBoundingClientRect();
      const area = contained(bounds, { width, height });
      const x = (clientX - bounds.left - area.left) / area.scale;
      const y = (clientY - bounds.top - area.top) / area.scale;
      const object = objectAt(this.found.seen, { x: this.#mirrored ? width - x : x, y });
      const index = object ? this.found.seen.indexOf(object) : undefined;
      this.#highlight(index);
      // Scrolls only within the list: the page must not move.
      if (index !== undefined) {
        const row = list.children[index];
        if (row.offsetTop < list.scrollTop) list.scrollTop = row.offsetTop;
        else if (row.offsetTop + row.offsetHeight > list.scrollTop + list.clientHeight) {
          list.scrollTop = row.offsetTop + row.offsetHeight - list.clientHeight;
        }
      }
    };
    stage.addEventListener("pointermove", point);
    stage.addEventListener("pointerdown", point);
    stage.addEventListener("pointerleave", leave);
  }

  #showNumbers() {
    const { time, rate, plot, build } = this.#elements;
    const { count, average, rate: perSecond, frames } = this.timing;
    const text = (milliseconds) => (count ? duration(milliseconds) : "–");
    time.textContent = text(sum(average));
    for (const part of PARTS) this.#elements[`${part}-time`].textContent = text(average[part]);
    rate.textContent = count > 1 && perSecond ? perSecond.toFixed(1) : "–";
    if (!build.offsetParent) return; // Not displayed.
    const style = getComputedStyle(plot);
    const colors = Object.fromEntries(PARTS.map((part) => [part, style.getPropertyValue(`--plot-${part}`)]));
    const top = drawPlot(plot, frames, /** @type {any} */ (colors));
    this.#elements["plot-top"].textContent = count ? `${top} ms` : "";
  }
}

const BUILDS = { simd128: "SIMD", "relaxed-simd": "relaxed SIMD", threads: "relaxed SIMD" };

/** @param {string} id */
function newRow(id) {
  const row = document.createElement("li");
  row.id = id;
  row.setAttribute("role", "option");
  const span = (className) => Object.assign(document.createElement("span"), { className });
  const name = document.createElement("span");
  name.append(span("label"), Object.assign(document.createElement("small"), { className: "rival" }));
  row.append(span("swatch"), name, span("score"));
  return row;
}

/** Writes a text only if it changed, to avoid a new layout. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
