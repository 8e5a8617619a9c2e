// The detector as a page sees it: sources in, objects out, in order, wherever it computes.
import { MicroYoloError, abortable, aborted, disposed } from "./error.js";
import { frameClock } from "./frames.js";
import { objectsFromRows } from "./objects.js";
import { checkOptions } from "./options.js";
import { defaultSettings, withSettings } from "./settings.js";

/** @typedef {import("./settings.js").Settings} Settings */

/** Only `load` of load.js makes detectors: one that exists is ready. */
export const FROM_LOAD = Symbol();

/** Documented in index.d.ts. Each entry of the package extends it by a `load` of its own. */
export class Detector {
  #backend;
  #settings;
  #info;
  /** @type {MicroYoloError | undefined} Why it no longer detects. */
  #over;
  /** @type {Set<() => void>} What wakes the loops that wait for a frame. */
  #watches = new Set();

  /**
   * @param {symbol} token
   * @param {import("./backend.js").Backend} backend
   * @param {import("./engine.js").ModelInfo & { worker: boolean }} info
   * @param {Readonly<Settings>} settings
   */
  constructor(token, backend, info, settings) {
    if (token !== FROM_LOAD) throw new MicroYoloError("invalid-option", "detectors are made with Detector.load()");
    this.#backend = backend;
    const { labels, input } = info;
    this.#info = { ...info, labels: Object.freeze([...labels]), input: Object.freeze({ ...input }) };
    this.#settings = settings;
  }

  get labels() {
    return this.#info.labels;
  }

  get build() {
    return this.#info.build;
  }

  get threads() {
    return this.#info.threads;
  }

  get worker() {
    return this.#info.worker;
  }

  get inputSize() {
    return this.#info.input;
  }

  get scoreThreshold() {
    return this.#settings.scoreThreshold;
  }

  set scoreThreshold(scoreThreshold) {
    this.#settings = withSettings(this.#settings, { scoreThreshold });
  }

  get iouThreshold() {
    return this.#settings.iouThreshold;
  }

  set iouThreshold(iouThreshold) {
    this.#settings = withSettings(this.#settings, { iouThreshold });
  }

  get maxDetections() {
    return this.#settings.maxDetections;
  }

  set maxDetections(maxDetections) {
    this.#settings = withSettings(this.#settings, { maxDetections });
  }

  get classes() {
    return this.#settings.classes;
  }

  set classes(classes) {
    const settings = withSettings(this.#settings, { classes });
    const unknown = settings.classes?.find((one) => !this.#knows(one));
    if (unknown !== undefined) throw new MicroYoloError("invalid-option", `the model has no class ${unknown}`);
    this.#settings = settings;
  }

  /**
   * @param {import("./index.js").ImageSource} source
   * @param {import("./index.js").DetectOptions} [options]
   */
  async detect(source, options = {}) {
    checkOptions("detect()", options, ["signal", "transfer"], Object.keys(defaultSettings));
    return (await this.#run(source, options, false)).objects;
  }

  /**
   * @param {HTMLVideoElement} video
   * @param {import("./index.js").WatchOptions} [options]
   */
  watch(video, options = {}) {
    checkOptions("watch()", options, ["signal", "track"], Object.keys(defaultSettings));
    const { signal, track = false } = options;
    if (Object.prototype.toString.call(video) !== "[object HTMLVideoElement]") {
      throw new MicroYoloError("invalid-source", "watch() takes a <video>; for a single picture call detect()");
    }
    return this.#watch(video, signal, track);
  }

  dispose() {
    this.#over ??= disposed();
    this.#backend.stop(this.#over);
    for (const wake of this.#watches) wake();
  }

  /** @param {string | number} one */
  #knows(one) {
    return typeof one === "string" ? this.labels.includes(one) : one >= 0 && one < this.labels.length;
  }

  #check() {
    if (this.#over) throw this.#over;
  }

  /**
   * @param {import("./index.js").ImageSource} source
   * @param {import("./index.js").DetectOptions} options
   * @param {boolean} track
   */
  async #run(source, { signal, transfer = false }, track) {
    if (signal?.aborted) throw aborted(signal);
    this.#check();
    const settings = this.#settings; // Those of the call's moment, whatever is set while it waits its turn.
    const frame = await abortable(this.#backend.frame(source, { signal, transfer }), signal);
    const { width, height } = frame;
    const rows = await abortable(this.#backend.detect(frame, { settings, track, transfer }), signal);
    return { objects: objectsFromRows(rows, this.labels), width, height };
  }

  /**
   * @param {HTMLVideoElement} video
   * @param {AbortSignal | undefined} signal
   * @param {boolean} track
   * @returns {AsyncGenerator<import("./index.js").WatchedFrame, void, void>}
   */
  async *#watch(video, signal, track) {
    if (signal?.aborted) return;
    this.#check();
    const clock = frameClock(video);
    const stop = () => clock.stop();
    signal?.addEventListener("abort", stop, { once: true });
    this.#watches.add(stop);
    try {
      if (track) await this.#backend.resetTracks();
      let seen = 0;
      for (;;) {
        const number = await clock.next(seen);
        this.#check();
        if (number === undefined) return;
        const started = performance.now();
        const time = video.currentTime;
        let found;
        try {
          found = await this.#run(video, { signal }, track);
        } catch (error) {
          const code = error instanceof MicroYoloError ? error.code : undefined;
          if (code === "aborted") return;
          if (code !== "not-loaded") throw error;
          seen = number; // Between two sources: wait for the next frame.
          continue;
        }
        const { objects, width, height } = found;
        const dropped = Math.max(0, number - seen - 1);
        seen = number;
        yield { objects, frame: { width, height, time, dropped, milliseconds: performance.now() - started } };
      }
    } finally {
      clock.stop();
      this.#watches.delete(stop);
      signal?.removeEventListener("abort", stop);
    }
  }
}

// `using detector = await Detector.load()`, where the browser has it.
if (Symbol.dispose) {
  Object.defineProperty(Detector.prototype, Symbol.dispose, {
    value: Detector.prototype.dispose,
    configurable: true,
    writable: true,
  });
}
