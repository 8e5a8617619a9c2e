/// <reference lib="dom" />
/// <reference lib="esnext.disposable" />

/** Pixels of an image, straight (not premultiplied) RGBA, one byte a channel, rows from the top without padding. */
export interface RawPixels {
  /**
   * `width * height * 4` bytes. A view counts with its offset and length, and only its part of the buffer is copied. It may
   * lie in WebAssembly or shared memory.
   */
  data: Uint8ClampedArray | Uint8Array;
  /** In pixels, 1 to 16384. */
  width: number;
  /** In pixels, 1 to 16384. */
  height: number;
}

/**
 * What `detect` looks at. A string or `URL` is fetched (from another site it needs CORS; at 256 MiB the download stops) and
 * decoded. Of a video, what it shows now: a first frame that is loaded and not yet there to be read is waited for, and so is
 * the end of a seek.
 *
 * Objects of another window (an iframe, a pop-up) or of node's `vm` do as well, and node's `Buffer` is a `Uint8Array`.
 */
export type ImageSource =
  | HTMLImageElement
  | HTMLVideoElement
  | HTMLCanvasElement
  | OffscreenCanvas
  | ImageBitmap
  | ImageData
  | VideoFrame
  | Blob
  | URL
  | string
  | RawPixels;

/**
 * A rectangle in pixels of the source as the user sees it: `naturalWidth` × `naturalHeight` of an image (orientation
 * written in the file applied; where `image-orientation: none` shows the image without a quarter turn, the other way round),
 * `videoWidth` × `videoHeight` of a video, `displayWidth` × `displayHeight` of a `VideoFrame`, `width` × `height` of
 * everything else. The first pixel reaches from 0 to 1. Clipped to the source.
 */
export interface Box {
  /** Left edge. */
  x: number;
  /** Top edge. */
  y: number;
  width: number;
  height: number;
}

/** One object found. Plain data: it survives `structuredClone` and `JSON.stringify`. */
export interface DetectedObject {
  /** Name of the class, or its number as text where the model has no names. */
  label: string;
  /** Number of the class, counted from 0 as the model counts. */
  classId: number;
  /** How sure the model is, 0 to 1. */
  score: number;
  box: Box;
  /**
   * Only from `watch` with `track`: the same number, from 0 up, for the same object from frame to frame. An object has it from
   * the second frame in which it is seen.
   */
  trackId?: number;
}

/** How a detector decides what to report. */
export interface DetectorSettings {
  /** Objects below this score are left out. 0 to 1, default 0.25. */
  scoreThreshold?: number | undefined;
  /**
   * Of two boxes of one class that overlap by more than this (intersection over union) only the better stays.
   * 0 to 1, default 0.45.
   */
  iouThreshold?: number | undefined;
  /** At most so many objects, the best first; 1 or more. Default 100. */
  maxDetections?: number | undefined;
  /** Only these classes, by label or number; an empty array: none. Default: all. */
  classes?: readonly (string | number)[] | undefined;
}

/** Downloaded so far. */
export interface Progress {
  /** Bytes of engine and model, decompressed. */
  loaded: number;
  /** All bytes, or `undefined` where the server does not say (it compresses, or sends in chunks). */
  total: number | undefined;
}

/** What a model may take. It is worked out from the file before the memory is allocated. */
export interface Limits {
  /**
   * Bytes of memory for all that is made of the file: its content, its weights as often as they are copied and packed, the
   * tensors between its layers. An upper estimate. A download stops at so many bytes. Default 1 GiB (2 ** 30), enough for
   * YOLOv8x at 640 px.
   */
  memoryBytes?: number | undefined;
  /** Nodes of the graph and stored tensors, together. Default 20000. */
  nodes?: number | undefined;
  /** Multiply-accumulates for one picture, and what takes as long. Default 500 billion, four times YOLOv8x at 640 px. */
  macs?: number | undefined;
}

/** A node of the model that the engine itself does not have, and that is therefore run by a slower one. */
export interface ForeignNode {
  /** Its name in the file, or that of its first output. */
  name: string;
  /** Its ONNX operator. */
  operator: string;
  /** Why the engine does not run it, and the shapes of its inputs. */
  reason: string;
}

export interface LoadOptions extends DetectorSettings {
  /** The model, an ONNX file: its URL or its bytes. Default: the model inside this package. */
  model?: string | URL | ArrayBufferView | ArrayBufferLike | Blob | undefined;
  /**
   * The engine: its URL, its bytes or the compiled module. This package has five. The plain `wasm/micro_yolo_bg.wasm` runs
   * the networks of this project, `wasm/micro_yolo_full_bg.wasm`, seven times the size, any; both run in every browser
   * with SIMD, and `wasm/micro_yolo_relaxed_bg.wasm` and `wasm/micro_yolo_full_relaxed_bg.wasm`, which are faster, in
   * those with relaxed SIMD too (Chrome 114, Node 22). `wasm/micro_yolo_threads_bg.wasm` is for `threads`. Default: the
   * fastest plain one that runs here, from beside this file, and if the model needs more, the full one.
   * `micro-yolo/inline` and `micro-yolo/small` take the plain ones only. Without a worker the first one given serves all detectors of the thread
   * that name one. Of an address a download stops at 64 MiB (`invalid-engine`).
   */
  wasm?: string | URL | ArrayBufferView | ArrayBufferLike | WebAssembly.Module | undefined;
  /**
   * The size in pixels to which pictures are fitted: one number for a square. Multiples of 32 from 32 to 4096. Smaller is
   * faster; larger sees smaller objects, and may miss large ones. Default: what the model declares.
   */
  inputSize?: number | { width: number; height: number } | undefined;
  /**
   * `true`: compute in a worker of the detector's own, or fail with code `worker-failed`. `false`: on the calling thread,
   * which then waits. Default: in a page a worker, or where none starts (a content security policy, a missing file), with a
   * warning on the console, the calling thread; in a worker, where Firefox 153 sometimes never returns from starting
   * another, and in Node the calling thread. `detector.worker` tells.
   */
  worker?: boolean | undefined;
  /**
   * Compute on so many threads, at most 16. Default 1. Takes effect where all of this holds, and does nothing where it does
   * not: the page is cross-origin isolated (it and its scripts are sent with `Cross-Origin-Opener-Policy: same-origin` and
   * `Cross-Origin-Embedder-Policy: require-corp`), the browser has relaxed SIMD, the detector has a worker, and the model
   * is one of this project's. `detector.threads` tells. The others keep a core each busy while a picture is worked on, so
   * ask for fewer than `navigator.hardwareConcurrency`.
   */
  threads?: number | undefined;
  /**
   * What the model may take: one beyond it is refused with `model-too-large`. `Infinity` is no limit, for a file that you
   * trust. Default: enough for large detectors, and too little for a file that is made to fill memory.
   */
  limits?: Limits | undefined;
  /**
   * The SHA-256 of the model's file, 64 hexadecimal digits: another file is refused with `invalid-model`. Where there is no
   * `crypto.subtle` (a page by plain http) it cannot be checked, and the load fails with `unsupported`.
   */
  sha256?: string | undefined;
  /** Gives the loading up: rejects with code `aborted`. */
  signal?: AbortSignal | undefined;
  /** Called as bytes arrive, at least once. */
  onProgress?: ((progress: Progress) => void) | undefined;
}

export interface DetectOptions {
  /** Gives this call up: rejects with code `aborted`. */
  signal?: AbortSignal | undefined;
  /**
   * Give the source away instead of copying it: an `ImageBitmap`, a `VideoFrame`, or the whole buffer under `RawPixels` or
   * `ImageData`, cannot be used afterwards. Default false. WebAssembly and shared memory cannot be given away and are copied
   * all the same. Without a worker nothing is copied and this does nothing.
   */
  transfer?: boolean | undefined;
}

/** How long a picture took where the detector computes, in milliseconds. A browser's clock may be coarse: 0.1 to 1 ms. */
export interface Timing {
  /** Drawing it at the size that the engine takes, and reading the pixels. Of pixels given as such next to nothing. */
  pixels: number;
  /** Fitting it to the input size, and the network. */
  network: number;
  /** What the network says made into boxes: scores compared, overlapping ones suppressed, tracks followed. */
  boxes: number;
}

export interface WatchOptions {
  /** Ends the loop, quietly. */
  signal?: AbortSignal | undefined;
  /** Follow objects: those seen in several frames carry a `trackId`. One such loop at a time for a detector. */
  track?: boolean | undefined;
}

/** What was seen in one frame of a video. */
export interface WatchedFrame {
  objects: DetectedObject[];
  frame: {
    /** `videoWidth` of the frame, what boxes refer to. */
    width: number;
    height: number;
    /** `currentTime` of the video when the frame was taken, in seconds. */
    time: number;
    /** Frames shown since the last result that were not looked at. */
    dropped: number;
    /** From taking the frame to its objects, with the way to the worker and back. */
    milliseconds: number;
  };
}

/**
 * Finds objects in pictures and videos, on this machine: nothing is sent anywhere.
 *
 * It may lie behind a proxy, as Vue's `ref` and `reactive` put one around it.
 *
 * ```js
 * const detector = await Detector.load();
 * const objects = await detector.detect(document.images[0]);
 * // [{ label: "cat", classId: 15, score: 0.84, box: { x: 0, y: 0, width: 414, height: 300 } }]
 * detector.dispose();
 * ```
 */
export class Detector {
  private constructor();

  /**
   * Loads engine and model side by side and makes them ready. Loads of the same files at the same time share one
   * download; after a failure the next call tries again.
   *
   * @throws {MicroYoloError} `aborted`, `network`, `no-simd`, `unsupported`, `worker-failed`, `invalid-engine`,
   * `invalid-model`, `unsupported-model`, `model-too-large`, `unsupported-operator`, `needs-tract`, `invalid-option`,
   * `crashed`
   */
  static load(options?: LoadOptions): Promise<Detector>;

  /** The model's class names, by `classId`. */
  readonly labels: readonly string[];

  /**
   * The nodes of the model that the engine itself does not have: none for the models of this package. The full engines run
   * them with tract; the others refuse such a model. The fewer there are, the faster the model.
   */
  readonly foreign: readonly Readonly<ForeignNode>[];

  /** Which engine computes: the one for relaxed SIMD is the faster, and `threads` the same with helpers. */
  readonly build: "simd128" | "relaxed-simd" | "threads";
  /** How many threads compute: see `LoadOptions.threads`. */
  readonly threads: number;
  /** Whether it computes in a worker of its own: see `LoadOptions.worker`. */
  readonly worker: boolean;

  /**
   * Of the picture that was answered last; `undefined` before the first. What a call takes beyond it is the decoding of the
   * source, the way to the worker and back, and the wait for earlier calls.
   */
  readonly timing: Readonly<Timing> | undefined;

  /** The size in pixels to which pictures are fitted before the model sees them. */
  readonly inputSize: Readonly<{ width: number; height: number }>;

  /**
   * See `DetectorSettings`. May be set at any time; holds for the calls made afterwards. Setting throws
   * `invalid-option` when the value is wrong.
   */
  scoreThreshold: number;
  /** See `scoreThreshold`. */
  iouThreshold: number;
  /** See `scoreThreshold`. */
  maxDetections: number;
  /** See `scoreThreshold`; `undefined` means all. */
  get classes(): (string | number)[] | undefined;
  set classes(classes: readonly (string | number)[] | undefined);

  /**
   * Finds the objects of one picture, the surest first. Calls made before earlier ones have finished wait their turn. What is
   * at hand (a canvas, a loaded image, a bitmap, pixels) is taken as it is at the call, and may be changed or closed after it.
   *
   * @throws {MicroYoloError} `not-loaded`, `tainted`, `invalid-image`, `image-too-large`, `invalid-source`, `network`,
   * `aborted`, `disposed`, `crashed`, `inference-failed`, `unsupported`
   */
  detect(source: ImageSource, options?: DetectOptions): Promise<DetectedObject[]>;

  /**
   * Finds the objects of a video as it plays, always in its newest frame: frames that come while one is looked at are
   * dropped, not queued, and none is looked at twice (without `requestVideoFrameCallback`, as in Firefox before 132, and in
   * a Firefox that is short of time, now and then one is).
   *
   * Waits for a video that has not loaded, while it is paused, and while the page that holds it is hidden. Where it is
   * sought while paused, it is looked at in its new place. Goes on when `src` or `srcObject` is another. Ends when the video
   * ends (a video that has ended already: after one look), when its camera stops, when its source is taken away, by the
   * signal, and by `return()` or `break`, at once even while it waits. One that ended is begun anew by another call.
   *
   * ```js
   * for await (const { objects, frame } of detector.watch(video, { signal })) draw(objects);
   * ```
   *
   * @throws {MicroYoloError} as `detect`, but a video that has not loaded is waited for: `invalid-image` if it cannot be
   * played, `network` if the network fails while it plays
   */
  watch(video: HTMLVideoElement, options?: WatchOptions): AsyncGenerator<WatchedFrame, void, void>;

  /** Frees everything. Calls under way reject with code `disposed`, as do later ones. Calling it again does nothing. */
  dispose(): void;
  /** The same, for `using`. */
  [Symbol.dispose](): void;
}

/**
 * | code | what happened, and what helps |
 * |---|---|
 * | `aborted` | the given signal was aborted; its reason is `cause` |
 * | `crashed` | the engine trapped: this detector is dead, a new one can be loaded. Please report it |
 * | `disposed` | the detector was disposed of |
 * | `image-too-large` | pixels with a side above 16384, or more than memory can hold: scale them down. Or an address that answers with more than 256 MiB, where the download stops: fetch it yourself and give the `Blob` |
 * | `inference-failed` | the network did not run to its end, or gave scores above 1 or `NaN`: the message says which |
 * | `invalid-engine` | the `wasm` file is broken, another one, too long, or of another version of this package; the message names it |
 * | `invalid-image` | not a picture or video the browser can decode, an empty one, or pixels of the wrong length |
 * | `invalid-model` | the model is no intact ONNX file, a `Blob` that can no longer be read, or has another SHA-256 than `sha256`; the message says if it is a web page sent in its place |
 * | `invalid-option` | an option out of its range (`NaN`, negative …), of the wrong type, or one that does not exist |
 * | `invalid-source` | `detect` was given something that is no picture at all |
 * | `model-too-large` | the model needs more memory, nodes or work than `limits` allows, or its file alone has more bytes than `limits.memoryBytes`, at which a download stops: the message says how much |
 * | `needs-tract` | the model is more than the plain engine runs, which `micro-yolo/small` and `micro-yolo/inline` have, or which was asked for as `wasm`; `micro-yolo` may run it |
 * | `network` | engine, model, picture, the rest of a video or a module of the package could not be fetched: offline, 404, no CORS, a content security policy |
 * | `no-simd` | the browser's WebAssembly has no SIMD (it came with Chrome 91, Firefox 89, Safari 16.4) |
 * | `not-loaded` | the `<img>` has no source or the `<video>` no frame yet: wait for `load` or `loadeddata`. Also a film whose frames the browser gives to nobody (protected, or in a page never shown), after 5 s |
 * | `tainted` | the picture came from another site without CORS, so the browser hides its pixels |
 * | `unsupported` | the platform lacks something or forbids it, and the message says what: WebAssembly (a content security policy without `wasm-unsafe-eval`, a browser too old), workers, canvases (Node has none; some browsers give noise instead of pixels), an address to find the package's files by |
 * | `unsupported-model` | intact ONNX, but not of a form this package knows |
 * | `unsupported-operator` | the model uses an operator that the engine does not have; the message names it |
 * | `worker-failed` | with `worker: true`: the worker did not start, and the message says why: a content security policy, `Cross-Origin-Embedder-Policy`, a file missing on the server |
 */
export type ErrorCode =
  | "aborted"
  | "crashed"
  | "disposed"
  | "image-too-large"
  | "inference-failed"
  | "invalid-engine"
  | "invalid-image"
  | "invalid-model"
  | "invalid-option"
  | "invalid-source"
  | "model-too-large"
  | "needs-tract"
  | "network"
  | "no-simd"
  | "not-loaded"
  | "tainted"
  | "unsupported"
  | "unsupported-model"
  | "unsupported-operator"
  | "worker-failed";

/** Every error of this package. */
export class MicroYoloError extends Error {
  constructor(code: ErrorCode, message: string, options?: { cause?: unknown });
  name: "MicroYoloError";
  readonly code: ErrorCode;
}
