// The only file that calls the generated WebAssembly glue. It runs in the worker, or on the page's own thread.
import init, { Engine as WasmEngine, __wbg_reset_state } from "./wasm/micro_yolo.js";
import { MicroYoloError } from "./error.js";
import { scaleRows } from "./objects.js";
import { PixelReader } from "./pixels.js";

/** @typedef {import("./settings.js").Settings} Settings */
/** @typedef {import("./settings.js").LoadSettings} LoadSettings */

/**
 * @typedef {object} ModelInfo
 * @property {string[]} labels
 * @property {"simd128" | "relaxed-simd"} build
 * @property {{ width: number, height: number }} input
 */

/** One instance a thread. A trap leaves its memory in an unknown state, so it is never entered again after one. */
const instance = {
  /** @type {Promise<unknown> | undefined} */
  started: undefined,
  /** Counts instances: an engine of an earlier one is dead. */
  generation: 0,
  crashed: false,
};

/** @param {WebAssembly.Module} module the first one given on a thread serves all engines there */
async function start(module) {
  instance.started ??= init({ module_or_path: module }).catch((cause) => {
    instance.started = undefined;
    throw new MicroYoloError("invalid-engine", "the engine file does not belong to this version of the package", {
      cause,
    });
  });
  await instance.started;
  if (instance.crashed) {
    __wbg_reset_state();
    instance.crashed = false;
    instance.generation += 1;
  }
}

/**
 * Runs `call` in the instance. The engine's own errors carry a code; anything else is a trap.
 * @template T
 * @param {() => T} call
 * @param {(cause: unknown) => MicroYoloError} [trapped]
 * @returns {T}
 */
function enter(call, trapped = crashed) {
  try {
    return call();
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && typeof cause.code === "string") {
      const code = /** @type {import("./index.js").ErrorCode} */ (cause.code);
      throw new MicroYoloError(code, cause.message, { cause: cause.cause });
    }
    instance.crashed = true;
    throw trapped(cause);
  }
}

/** @param {unknown} [cause] */
export function crashed(cause) {
  const what = cause instanceof Error ? ` (${cause.message})` : "";
  return new MicroYoloError("crashed", `the engine crashed${what}; load a new detector with Detector.load()`, { cause });
}

/**
 * A trap while a model is read is the model's doing: natively the same panic is caught and said in this way, but
 * WebAssembly cannot catch it.
 * @param {unknown} cause
 */
function refusedModel(cause) {
  const what = cause instanceof Error ? `: ${cause.message}` : "";
  return new MicroYoloError("unsupported-model", `the runtime gave up on this network${what}`, { cause });
}

/** A model, ready to run. */
export class Engine {
  #generation = instance.generation;
  #reader = new PixelReader();
  /** @type {WasmEngine | undefined} */
  #engine;
  /** @type {Settings | undefined} */
  #settings;
  /** @type {ModelInfo} */
  info;

  /**
   * @param {WebAssembly.Module} module
   * @param {Uint8Array} model ONNX
   * @param {LoadSettings} settings
   */
  static async load(module, model, settings) {
    await start(module);
    return new Engine(model, settings);
  }

  /**
   * @private
   * @param {Uint8Array} model
   * @param {LoadSettings} settings
   */
  constructor(model, { inputSize, ...settings }) {
    const engine = enter(() => new WasmEngine(model, inputSize?.width, inputSize?.height), refusedModel);
    this.#engine = engine;
    this.info = enter(() => ({
      labels: engine.labels(),
      build: /** @type {ModelInfo["build"]} */ (engine.build),
      input: { width: engine.inputWidth, height: engine.inputHeight },
    }));
    try {
      this.#set(engine, settings);
    } catch (error) {
      this.free();
      throw error;
    }
  }

  /**
   * @param {import("./source.js").Frame} frame
   * @param {Settings} settings
   * @param {boolean} track
   * @returns {Float32Array} rows of numbers, see objects.js
   */
  detect(frame, settings, track) {
    const { data, width, height } = this.#reader.read(frame, this.info.input);
    const scaled = "image" in frame ? { x: frame.width / width, y: frame.height / height } : { x: 1, y: 1 };
    const engine = this.#alive();
    this.#set(engine, settings);
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const rows = enter(() => engine.detect(bytes, width, height, track));
    if (scaled.x !== 1 || scaled.y !== 1) scaleRows(rows, scaled);
    return rows;
  }

  /** Forgets the objects followed so far. */
  resetTracks() {
    const engine = this.#alive();
    enter(() => engine.resetTracks());
  }

  free() {
    const engine = this.#engine;
    this.#engine = undefined;
    // Of a crashed instance nothing is freed: it goes as a whole.
    if (engine && this.#generation === instance.generation && !instance.crashed) engine.free();
  }

  /** @returns {WasmEngine} */
  #alive() {
    if (!this.#engine || this.#generation !== instance.generation || instance.crashed) throw crashed();
    return this.#engine;
  }

  /**
   * @param {WasmEngine} engine
   * @param {Settings} settings
   */
  #set(engine, settings) {
    const old = this.#settings;
    if (settings === old) return;
    enter(() => {
      if (settings.scoreThreshold !== old?.scoreThreshold) engine.setScoreThreshold(settings.scoreThreshold);
      if (settings.iouThreshold !== old?.iouThreshold) engine.setIouThreshold(settings.iouThreshold);
      if (settings.maxDetections !== old?.maxDetections) engine.setMaxDetections(settings.maxDetections);
      if (String(settings.classes) !== String(old?.classes)) engine.setClasses(settings.classes);
    });
    this.#settings = settings;
  }
}
