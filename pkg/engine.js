// The only file that calls the generated WebAssembly glue code. It runs in the worker or on the page's thread.
import { MicroYoloError } from "./error.js";
import { scaleRows } from "./objects.js";
import { PixelReader } from "./pixels.js";
import { platformError } from "./platform.js";

/** @typedef {import("./settings.js").Settings} Settings */
/** @typedef {import("./settings.js").LoadSettings} LoadSettings */

/**
 * @typedef {object} ModelInfo
 * @property {string[]} labels
 * @property {"simd128" | "relaxed-simd" | "threads"} build
 * @property {number} threads
 * @property {{ width: number, height: number }} input
 * @property {import("./index.js").ForeignNode[]} foreign
 */

/**
 * What helpers need in addition to the module: the memory, and the address of the counter on which they sleep.
 * @typedef {{ memory: WebAssembly.Memory, round: number }} Team
 */

/**
 * @typedef {object} Found
 * @property {Float32Array} rows of numbers, see objects.js
 * @property {import("./index.js").Timing} timing
 * @property {boolean} [plain] whether all pixels of the picture are the same
 * @property {boolean} [blank] whether nothing of it was drawn
 */

/** @typedef {import("./wasm/micro_yolo.js").Engine & { foreign?: () => string[] }} WasmEngine */

/**
 * @typedef {Pick<typeof import("./wasm/micro_yolo.js"), "Engine"> & {
 *   __wbg_reset_state?: () => void,
 *   default: (options: { module_or_path: WebAssembly.Module }) => Promise<{ memory: WebAssembly.Memory }>,
 *   roundAddress?: () => number,
 * }} Glue
 */

/**
 * The state of one module on this thread. A trap leaves its memory in an unknown state, so the instance is not used
 * again.
 */
export class Instance {
  #glue;
  /** @type {Promise<unknown> | undefined} */
  #started;
  /** @type {Team | undefined} Where the module has helpers. */
  team;
  /** Counts instances: an engine of an earlier instance is dead. */
  generation = 0;
  crashed = false;

  /** @param {Glue} glue */
  constructor(glue) {
    this.#glue = glue;
  }

  /** @param {WebAssembly.Module} module the first one given on a thread serves all engines of its kind there */
  async start(module) {
    const glue = this.#glue;
    this.#started ??= glue.default({ module_or_path: module }).then(({ memory }) => {
      if (glue.roundAddress) this.team = { memory, round: glue.roundAddress() };
    });
    try {
      await this.#started;
    } catch (cause) {
      this.#started = undefined;
      const message = "the engine file does not belong to this version of the package";
      throw platformError(cause) ?? new MicroYoloError("invalid-engine", message, { cause });
    }
    if (this.crashed) {
      if (!glue.__wbg_reset_state) throw crashed();
      glue.__wbg_reset_state();
      this.crashed = false;
      this.generation += 1;
    }
    return glue;
  }

  /**
   * Runs `call` in the instance. The engine's own errors have a code; anything else is a trap.
   * @template T
   * @param {() => T} call
   * @param {(cause: unknown) => MicroYoloError} [trapped]
   * @returns {T}
   */
  enter(call, trapped = crashed) {
    try {
      return call();
    } catch (cause) {
      if (cause instanceof Error && "code" in cause && typeof cause.code === "string") {
        const code = /** @type {import("./index.js").ErrorCode} */ (cause.code);
        throw new MicroYoloError(code, cause.message, { cause: cause.cause });
      }
      this.crashed = true;
      throw trapped(cause);
    }
  }
}

/**
 * Runs `call` while the helpers are awake. They look for work while the counter is odd.
 * @template T
 * @param {Team} team
 * @param {() => T} call
 * @returns {T}
 */
function together({ memory, round }, call) {
  const words = new Int32Array(memory.buffer);
  Atomics.add(words, round / 4, 1);
  Atomics.notify(words, round / 4);
  try {
    return call();
  } finally {
    Atomics.add(words, round / 4, 1);
  }
}

/** @param {unknown} [cause] */
export function crashed(cause) {
  const what = cause instanceof Error ? ` (${cause.message})` : "";
  return new MicroYoloError("crashed", `the engine crashed${what}; load a new detector with Detector.load()`, { cause });
}

/**
 * A trap while a model is loaded is caused by the model. Natively the same panic is caught and reported like this, but
 * WebAssembly cannot catch it.
 * @param {unknown} cause
 */
function refusedModel(cause) {
  const what = cause instanceof Error ? `: ${cause.message}` : "";
  return new MicroYoloError("unsupported-model", `the runtime gave up on this network${what}`, { cause });
}

/**
 * @param {string[]} texts name, operator and reason of each node
 * @returns {import("./index.js").ForeignNode[]}
 */
function foreignNodes(texts) {
  const nodes = [];
  for (let at = 0; at < texts.length; at += 3) nodes.push({ name: texts[at], operator: texts[at + 1], reason: texts[at + 2] });
  return nodes;
}

/** A model, ready to run. */
export class Engine {
  #instance;
  #generation;
  #reader = new PixelReader();
  /** @type {WasmEngine | undefined} */
  #engine;
  /** @type {Settings | undefined} */
  #settings;
  /** @type {ModelInfo} */
  info;

  /**
   * @param {Instance} instance of the module's kind
   * @param {WebAssembly.Module} module
   * @param {Uint8Array} model ONNX
   * @param {LoadSettings} settings
   */
  static async load(instance, module, model, settings) {
    return new Engine(instance, await instance.start(module), model, settings);
  }

  /**
   * @private
   * @param {Instance} instance
   * @param {Glue} glue
   * @param {Uint8Array} model
   * @param {LoadSettings} settings
   */
  constructor(instance, glue, model, { inputSize, threads, limits, ...settings }) {
    this.#instance = instance;
    this.#generation = instance.generation;
    if (!model.length) {
      // In the engine it would be a crash of all detectors of this thread.
      throw new MicroYoloError("invalid-model", "the model is empty (0 bytes), or its buffer was transferred");
    }
    const { memoryBytes, nodes, macs } = limits ?? {};
    /** @returns {WasmEngine} */
    const make = () => new glue.Engine(model, inputSize?.width, inputSize?.height, threads, memoryBytes, nodes, macs);
    const engine = instance.enter(make, refusedModel);
    this.#engine = engine;
    this.info = instance.enter(() => ({
      labels: engine.labels(),
      build: /** @type {ModelInfo["build"]} */ (engine.build),
      threads: engine.threads,
      input: { width: engine.inputWidth, height: engine.inputHeight },
      foreign: foreignNodes(engine.foreign?.() ?? []),
    }));
    try {
      this.#set(engine, settings);
    } catch (error) {
      this.free();
      throw error;
    }
  }

  /** @returns {Team | undefined} what helpers need, if there are to be any */
  get team() {
    return this.info.threads > 1 ? this.#instance.team : undefined;
  }

  /**
   * @param {import("./source.js").Frame} frame
   * @param {Settings} settings
   * @param {number | undefined} track the number of the video in which objects are tracked
   * @returns {Found}
   */
  detect(frame, settings, track) {
    const started = performance.now();
    const { data, width, height, plain, blank } = this.#reader.read(frame, this.info.input);
    const read = performance.now();
    const scaled = "image" in frame ? { x: frame.width / width, y: frame.height / height } : { x: 1, y: 1 };
    const engine = this.#alive();
    this.#set(engine, settings);
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const detect = () => engine.detect(bytes, width, height, track);
    const { team } = this;
    const rows = this.#instance.enter(team ? () => together(team, detect) : detect);
    const ran = engine.ran;
    const timing = { pixels: read - started, network: ran - read, boxes: performance.now() - ran };
    if (scaled.x !== 1 || scaled.y !== 1) scaleRows(rows, scaled);
    return { rows, timing, plain, blank };
  }

  /**
   * Forgets the tracks of a video.
   * @param {number} track
   */
  endTracks(track) {
    const engine = this.#alive();
    this.#instance.enter(() => engine.endTracks(track));
  }

  free() {
    const engine = this.#engine;
    this.#engine = undefined;
    // Nothing is freed in a crashed instance; it is dropped as a whole.
    if (engine && this.#lives()) engine.free();
  }

  /** @returns {WasmEngine} */
  #alive() {
    if (!this.#engine || !this.#lives()) throw crashed();
    return this.#engine;
  }

  #lives() {
    return this.#generation === this.#instance.generation && !this.#instance.crashed;
  }

  /**
   * @param {WasmEngine} engine
   * @param {Settings} settings
   */
  #set(engine, settings) {
    const old = this.#settings;
    if (settings === old) return;
    this.#instance.enter(() => {
      if (settings.scoreThreshold !== old?.scoreThreshold) engine.setScoreThreshold(settings.scoreThreshold);
      if (settings.iouThreshold !== old?.iouThreshold) engine.setIouThreshold(settings.iouThreshold);
      // The engine expects 32 bits, in which Infinity would become 0.
      if (settings.maxDetections !== old?.maxDetections) engine.setMaxDetections(Math.min(settings.maxDetections, 2 ** 32 - 1));
      if (JSON.stringify(settings.classes) !== JSON.stringify(old?.classes)) engine.setClasses(settings.classes && [...settings.classes]);
    });
    this.#settings = settings;
  }
}
