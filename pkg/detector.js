// The public detector class: sources in, objects out, in order, independent of where it computes.
import { MicroYoloError, abortable, aborted, disposed, given } from "./error.js";
import { frameClock } from "./frames.js";
import { kindOf } from "./kind.js";
import { objectsFromRows } from "./objects.js";
import { checkOptions } from "./options.js";
import { defaultSettings, withSettings } from "./settings.js";
import { release } from "./source.js";

/** @typedef {import("./settings.js").Settings} Settings */

/** Only `load` in load.js creates detectors, so an existing detector is ready. */
export const FROM_LOAD = Symbol();

/** The detector itself. Frameworks wrap it in a proxy (Vue's `ref` and `reactive`), which has no private fields. */
const ITSELF = Symbol();

/** Documented in index.d.ts. Each entry of the package extends it with its own `load`. */
export class Detector {
  #backend;
  #settings;
  #info;
  /** @type {MicroYoloError | undefined} Why it no longer detects. */
  #over;
  /** @type {Readonly<import("./index.js").Timing> | undefined} */
  #timing;
  /** Functions that end the running loops and calls. */
  #ends = new Set();
  /** Number of videos that were watched with `track` so far. */
  #videos = 0;
  /** A function, because such proxies wrap objects that they return, but not functions. */
  [ITSELF] = () => this;

  /**
   * @param {symbol} token
   * @param {import("./backend.js").Backend} backend
   * @param {import("./engine.js").ModelInfo & { worker: boolean }} info
   * @param {Readonly<Settings>} settings
   */
  constructor(token, backend, info, settings) {
    if (token !== FROM_LOAD) throw new MicroYoloError("invalid-option", "detectors are made with Detector.load()");
    this.#backend = backend;
    const { labels, input, foreign } = info;
    this.#info = {
      ...info,
      labels: Object.freeze([...labels]),
      input: Object.freeze({ ...input }),
      foreign: Object.freeze(foreign.map((node) => Object.freeze(node))),
    };
    this.#settings = settings;
  }

  get labels() {
    return this[ITSELF]().#info.labels;
  }

  get foreign() {
    return this[ITSELF]().#info.foreign;
  }

  get build() {
    return this[ITSELF]().#info.build;
  }

  get threads() {
    return this[ITSELF]().#info.threads;
  }

  get worker() {
    return this[ITSELF]().#info.worker;
  }

  get inputSize() {
    return this[ITSELF]().#info.input;
  }

  get timing() {
    return this[ITSELF]().#timing;
  }

  get scoreThreshold() {
    return this[ITSELF]().#settings.scoreThreshold;
  }

  set scoreThreshold(scoreThreshold) {
    this[ITSELF]().#set({ scoreThreshold });
  }

  get iouThreshold() {
    return this[ITSELF]().#settings.iouThreshold;
  }

  set iouThreshold(iouThreshold) {
    this[ITSELF]().#set({ iouThreshold });
  }

  get maxDetections() {
    return this[ITSELF]().#settings.maxDetections;
  }

  set maxDetections(maxDetections) {
    this[ITSELF]().#set({ maxDetections });
  }

  get classes() {
    return this[ITSELF]().#settings.classes;
  }

  set classes(classes) {
    this[ITSELF]().#set({ classes });
  }

  /**
   * @param {import("./index.js").ImageSource} source
   * @param {import("./index.js").DetectOptions} [options]
   */
  async detect(source, options = {}) {
    checkOptions("detect()", options, ["signal", "transfer"], Object.keys(defaultSettings));
    return (await this[ITSELF]().#run(source, options)).objects;
  }

  /**
   * @param {HTMLVideoElement} video
   * @param {import("./index.js").WatchOptions} [options]
   */
  watch(video, options = {}) {
    checkOptions("watch()", options, ["signal", "track"], Object.keys(defaultSettings));
    const { signal, track = false } = options;
    if (kindOf(video) !== "HTMLVideoElement") {
      throw new MicroYoloError("invalid-source", `watch() takes a <video>, not ${given(video)}; for a single picture call detect()`);
    }
    const stop = new AbortController();
    const frames = this[ITSELF]().#watch(video, signal, stop, track);
    // A generator reacts to `return()` and `throw()` only when its pending promise settles, which may never happen for
    // a paused video.
    for (const method of /** @type {const} */ (["return", "throw"])) {
      const original = frames[method];
      /** @param {any} given */
      const value = (given) => {
        stop.abort();
        return original.call(frames, given);
      };
      Object.defineProperty(frames, method, { value, configurable: true, writable: true }); // An assignment fails if the page has frozen its prototype.
    }
    return frames;
  }

  dispose() {
    const self = this[ITSELF]();
    self.#over ??= disposed();
    self.#backend.stop(self.#over);
    for (const end of self.#ends) end();
  }

  /** @param {Parameters<typeof withSettings>[1]} changes */
  #set(changes) {
    const settings = withSettings(this.#settings, changes);
    const knows = (/** @type {string | number} */ one) =>
      typeof one === "string" ? this.labels.includes(one) : one >= 0 && one < this.labels.length;
    const unknown = settings.classes?.find((one) => !knows(one));
    if (unknown !== undefined) throw new MicroYoloError("invalid-option", `the model has no class ${unknown}`);
    this.#settings = settings;
  }

  #check() {
    if (this.#over) throw this.#over;
  }

  /**
   * @param {import("./index.js").ImageSource} source
   * @param {import("./index.js").DetectOptions} options
   * @param {number} [track] the number of the video in which objects are tracked
   * @param {(timestamp?: number) => void} [took] called when the frame was taken, with the timestamp of a video frame
   */
  async #run(source, { signal: given, transfer = false }, track, took) {
    if (given?.aborted) throw aborted(given);
    this.#check();
    const settings = this.#settings; // The settings at the call, even if they change while it waits.
    // Both the caller's signal and dispose() end the call. (AbortSignal.any() is missing in some supported browsers.)
    const stop = new AbortController();
    const { signal } = stop;
    const end = () => stop.abort();
    given?.addEventListener("abort", end);
    this.#ends.add(end);
    try {
      const taking = this.#backend.frame(source, { signal, transfer });
      let frame;
      // Not `instanceof`: a page may replace Promise (zone.js, a polyfill), and promises of async functions are not
      // instances of that.
      if ("then" in taking) {
        frame = await abortable(taking, signal).catch((error) => {
          taking.then(release, () => {}); // Nobody waits for it any more, but a camera needs its frames back.
          throw error;
        });
      } else {
        frame = taking; // Available, and read before the caller can change it.
      }
      const { width, height } = frame;
      if (took) took("image" in frame && "timestamp" in frame.image ? frame.image.timestamp : undefined);
      const { rows, timing } = await abortable(this.#backend.detect(frame, { settings, track, transfer }), signal);
      this.#timing = Object.freeze(timing);
      return { objects: objectsFromRows(rows, this.labels), width, height };
    } catch (error) {
      if (!signal.aborted) throw error;
      throw given?.aborted ? aborted(given) : this.#over;
    } finally {
      given?.removeEventListener("abort", end);
      this.#ends.delete(end);
    }
  }

  /**
   * @param {HTMLVideoElement} video
   * @param {AbortSignal | undefined} signal
   * @param {AbortController} stop ends the loop, as `signal` does
   * @param {boolean} track
   * @returns {AsyncGenerator<import("./index.js").WatchedFrame, void, void>}
   */
  async *#watch(video, signal, stop, track) {
    if (signal?.aborted) return;
    this.#check();
    const number = track ? (this.#videos += 1) : undefined;
    const clock = frameClock(video);
    const end = () => stop.abort();
    stop.signal.addEventListener("abort", clock.stop);
    signal?.addEventListener("abort", end, { signal: stop.signal });
    this.#ends.add(end);
    try {
      let seen = 0;
      for (;;) {
        const frame = await clock.next(seen);
        this.#check();
        if (frame === undefined) return;
        const before = seen;
        seen = frame;
        let started = 0;
        let time = 0;
        const took = (/** @type {number | undefined} */ timestamp) => {
          started = performance.now();
          time = video.currentTime;
          seen = clock.took(timestamp);
        };
        let found;
        try {
          found = await this.#run(video, { signal: stop.signal }, number, took);
        } catch (error) {
          const code = error instanceof MicroYoloError ? error.code : undefined;
          if (code === "not-loaded") {
            if (clock.isEmpty()) throw withoutFrames(error);
            continue; // Between two sources: wait for the next frame.
          }
          if (code !== "aborted") throw error;
          this.#check(); // Disposed of?
          return;
        }
        const { objects, width, height } = found;
        const dropped = Math.max(0, seen - before - 1);
        yield { objects, frame: { width, height, time, dropped, milliseconds: performance.now() - started } };
      }
    } finally {
      end();
      this.#ends.delete(end);
      // Not awaited: a worker that is busy or was killed must not prevent the loop from ending.
      if (number !== undefined) this.#backend.endTracks(number).catch(() => {});
    }
  }
}

/** @param {unknown} cause */
function withoutFrames(cause) {
  const message = "the browser has played the video to its end and gave no frame: the file is cut off, damaged or protected";
  return new MicroYoloError("invalid-image", message, { cause });
}

// For `using detector = await Detector.load()`, in browsers that support it.
if (Symbol.dispose) {
  Object.defineProperty(Detector.prototype, Symbol.dispose, {
    value: Detector.prototype.dispose,
    configurable: true,
    writable: true,
  });
}
