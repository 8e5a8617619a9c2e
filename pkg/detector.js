// The detector as a page sees it: sources in, objects out, in order, wherever it computes.
import { checkPlatform, fullEngine, loadAssets, smallEngine } from "./assets.js";
import { openBackend } from "./backend.js";
import { MicroYoloError, abortable, aborted, disposed } from "./error.js";
import { frameClock } from "./frames.js";
import { objectsFromRows } from "./objects.js";
import { checkedInputSize, checkedThreads, defaultSettings, withSettings } from "./settings.js";

/** @typedef {import("./settings.js").Settings} Settings */

/** Only `load` makes detectors: one that exists is ready. */
const FROM_LOAD = Symbol();

/**
 * Whether to start a worker where nobody says. Not from a worker: the page is free already, a second thread would only
 * cost memory, and in Firefox (seen in 153) `new Worker` in a worker now and then never returns on a busy machine.
 */
const wantsWorker = () => !("WorkerGlobalScope" in globalThis);

/**
 * Loads the engine and the model. Where the caller names no engine, the small one comes first; a model that is more than
 * it runs brings in the full one.
 * @param {import("./backend.js").Backend} backend
 * @param {Pick<import("./index.js").LoadOptions, "wasm" | "signal" | "onProgress"> & { model: NonNullable<import("./index.js").LoadOptions["model"]> }} wanted
 * @param {import("./settings.js").LoadSettings} settings
 */
async function loadInto(backend, { wasm, model, signal, onProgress }, settings) {
  /** @param {Parameters<typeof loadAssets>[0]} wanted */
  const attempt = async (wanted) => {
    const assets = await loadAssets({ ...wanted, signal });
    return { assets, info: abortable(backend.load(assets.module, assets.model, settings), signal) };
  };
  // Not by its truth: what is no engine must be refused, not passed over.
  if (wasm !== undefined && wasm !== null) return (await attempt({ wasm, model, onProgress })).info;
  let before = 0;
  const { assets, info } = await attempt({
    wasm: smallEngine(settings.threads > 1),
    model,
    onProgress(progress) {
      before = progress.loaded;
      onProgress?.(progress);
    },
  });
  try {
    return await info;
  } catch (error) {
    if (!(error instanceof MicroYoloError && error.code === "needs-tract")) throw error;
  }
  const full = await attempt({
    wasm: fullEngine(),
    model: assets.model,
    onProgress({ loaded, total }) {
      onProgress?.({ loaded: before + loaded, total: total === undefined ? undefined : before + total });
    },
  });
  return full.info;
}

/** Documented in index.d.ts. */
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
   * @param {import("./engine.js").ModelInfo} info
   * @param {Readonly<Settings>} settings
   */
  constructor(token, backend, info, settings) {
    if (token !== FROM_LOAD) throw new MicroYoloError("invalid-option", "detectors are made with Detector.load()");
    this.#backend = backend;
    const { labels, input } = info;
    this.#info = { ...info, labels: Object.freeze([...labels]), input: Object.freeze({ ...input }) };
    this.#settings = settings;
  }

  /** @param {import("./index.js").LoadOptions} [options] */
  static async load(options = {}) {
    const { signal, onProgress, worker = wantsWorker() } = options;
    const model = options.model ?? new URL("./wasm/micro-yolo-s-int8.onnx", import.meta.url);
    const settings = withSettings(defaultSettings, options);
    const inputSize = checkedInputSize(options.inputSize);
    // Helpers serve a detector that has a worker: a page's own thread must not wait for them.
    const asked = checkedThreads(options.threads);
    const threads = worker ? asked : 1;
    if (signal?.aborted) throw aborted(signal);
    checkPlatform();
    const backend = openBackend(worker); // Before the downloads: the worker starts meanwhile.
    try {
      const info = await loadInto(backend, { wasm: options.wasm, model, signal, onProgress }, { ...settings, inputSize, threads });
      return new Detector(FROM_LOAD, backend, info, settings);
    } catch (error) {
      backend.stop();
      throw error;
    }
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
    return (await this.#run(source, options, false)).objects;
  }

  /**
   * @param {HTMLVideoElement} video
   * @param {import("./index.js").WatchOptions} [options]
   */
  watch(video, { signal, track = false } = {}) {
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
