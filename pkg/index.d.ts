/// <reference lib="dom" />
/// <reference lib="esnext.disposable" />

/** Pixels of an image: RGBA (not premultiplied), one byte per channel, rows from the top without padding. */
export interface RawPixels {
  /**
   * `width * height * 4` bytes. If it is a view, only its part of the buffer is copied. The buffer may be WebAssembly
   * or shared memory.
   */
  data: Uint8ClampedArray | Uint8Array;
  /** In pixels, 1 to 16384. */
  width: number;
  /** In pixels, 1 to 16384. */
  height: number;
}

/**
 * The sources that `detect` accepts. A string or `URL` is fetched and decoded; another site must send CORS headers, and
 * the download stops at 256 MiB. For a video, the frame shown at the call is used. `detect` waits for the first frame
 * and for the end of a seek.
 *
 * Objects of another window (an iframe, a pop-up) or of Node's `vm` are accepted. Node's `Buffer` is a `Uint8Array`.
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
 * A rectangle in pixels of the source as the user sees it: `naturalWidth` × `naturalHeight` of an image, `videoWidth` ×
 * `videoHeight` of a video, `displayWidth` × `displayHeight` of a `VideoFrame`, `width` × `height` of everything else.
 * The orientation stored in an image file is applied. With `image-orientation: none` it is not applied; if the
 * orientation is a quarter turn, width and height are then swapped. The first pixel reaches from 0 to 1. Boxes are
 * clipped to the source.
 */
export interface Box {
  /** Left edge. */
  x: number;
  /** Top edge. */
  y: number;
  width: number;
  height: number;
}

/** One detected object. Plain data, which `structuredClone` and `JSON.stringify` keep. */
export interface DetectedObject {
  /** Name of the class, or its number as text if the model has no names. */
  label: string;
  /** Number of the class in the model, from 0. */
  classId: number;
  /** The score, 0 to 1. */
  score: number;
  box: Box;
  /**
   * Only from `watch` with `track`: a number, from 0, that an object keeps from frame to frame. It gets one in the
   * second frame in which it is detected.
   */
  trackId?: number | undefined;
}

/** The settings of a detector that can be changed at any time. */
export interface DetectorSettings {
  /** Objects below this score are left out. 0 to 1, default 0.25. */
  scoreThreshold?: number | undefined;
  /**
   * Of two boxes of one class that overlap by more than this (intersection over union), the one with the lower score is
   * dropped. 0 to 1, default 0.45. It has no effect on models with NMS inside the network.
   */
  iouThreshold?: number | undefined;
  /** The maximum number of objects, 1 or more; those with the best scores are kept. `Infinity` means no limit. Default 100. */
  maxDetections?: number | undefined;
  /** Only these classes, by label or number. An empty array means none. Default: all. */
  classes?: readonly (string | number)[] | undefined;
}

/** The progress of a download. */
export interface Progress {
  /** Bytes of engine and model received so far, decompressed. */
  loaded: number;
  /** All bytes, or `undefined` if the server does not send the length (it compresses, or sends in chunks). */
  total: number | undefined;
}

/** Limits for a model. Its needs are computed from the file before memory is allocated. */
export interface Limits {
  /**
   * Bytes of memory for everything that is made from the file: its parsed content, all copies of its weights including
   * packed ones, and the tensors between its layers. This is an upper estimate. A download also stops at this number of
   * bytes. Default 1 GiB (2 ** 30), enough for YOLOv8x at 640 px.
   */
  memoryBytes?: number | undefined;
  /** Nodes of the graph, its inputs, outputs and stored tensors together. Default 20000. */
  nodes?: number | undefined;
  /**
   * Multiply-accumulates for one picture. Other operations count according to their time. Default 500 billion, four
   * times those of YOLOv8x at 640 px.
   */
  macs?: number | undefined;
}

/** A node of the model that the engine does not support and tract runs, which is slower. */
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
   * The engine: its URL, its bytes or the compiled module. Default: the fastest plain engine of the package that the
   * browser runs, or a full one if the model needs it.
   *
   * The package has five. `wasm/micro_yolo_bg.wasm` (plain) runs the networks of this project,
   * `wasm/micro_yolo_full_bg.wasm` (12 times the size) any network; both need SIMD. `wasm/micro_yolo_relaxed_bg.wasm` and
   * `wasm/micro_yolo_full_relaxed_bg.wasm` are faster and need relaxed SIMD (Chrome 114, Node 22).
   * `wasm/micro_yolo_threads_bg.wasm` is for `threads`.
   *
   * `micro-yolo/inline` and `micro-yolo/small` accept only plain engines. With `worker: false`, all detectors on a
   * thread that set this option share the engine of the first. A download from a URL stops at 64 MiB
   * (`invalid-engine`).
   */
  wasm?: string | URL | ArrayBufferView | ArrayBufferLike | WebAssembly.Module | undefined;
  /**
   * The size in pixels to which pictures are scaled: one number for a square. Multiples of 32 from 32 to 4096. Smaller is
   * faster. Larger finds smaller objects, and may miss large ones. Default: what the model declares.
   */
  inputSize?: number | { width: number; height: number } | undefined;
  /**
   * `true`: compute in a separate worker, or fail with code `worker-failed`. `false`: compute on the calling thread,
   * which is blocked meanwhile. `detector.worker` says which of the two is used.
   *
   * Default: in a page, a worker. If none starts (a content security policy, a missing file), the calling thread
   * computes, and the console shows a warning. In Node, Bun and Deno and inside a worker, the calling thread computes. (In
   * Firefox 153, starting a worker from a worker sometimes hangs. In Bun and Deno a worker keeps the process alive until
   * `dispose()`.)
   */
  worker?: boolean | undefined;
  /**
   * The number of threads that compute, at most 16. Default 1. `detector.threads` says how many there are. More than one
   * needs all of these, else it has no effect:
   *
   * - the page is cross-origin isolated: it and its scripts are sent with `Cross-Origin-Opener-Policy: same-origin` and
   *   `Cross-Origin-Embedder-Policy: require-corp`,
   * - the browser has relaxed SIMD,
   * - the detector has a worker,
   * - the model is one of this project's.
   *
   * Each thread keeps a core busy while a picture is processed, so ask for fewer than `navigator.hardwareConcurrency`.
   */
  threads?: number | undefined;
  /**
   * Limits for the model. A model beyond a limit is refused with `model-too-large`. `Infinity` means no limit, for a
   * file that you trust. The defaults are enough for large detectors, and refuse files that are made to exhaust memory.
   */
  limits?: Limits | undefined;
  /**
   * The SHA-256 of the model file, 64 hexadecimal digits. Any other file is refused with `invalid-model`. Without
   * `crypto.subtle` (a page over plain http) it cannot be checked, and loading fails with `unsupported`.
   */
  sha256?: string | undefined;
  /** Stops loading, which rejects with code `aborted`. */
  signal?: AbortSignal | undefined;
  /** Called when bytes arrive, at least once. */
  onProgress?: ((progress: Progress) => void) | undefined;
}

export interface DetectOptions {
  /** Stops this call, which rejects with code `aborted`. */
  signal?: AbortSignal | undefined;
  /**
   * Transfer the source to the worker instead of copying it. An `ImageBitmap`, a `VideoFrame`, or the whole buffer of
   * `RawPixels` or `ImageData` cannot be used afterwards. Default false. WebAssembly and shared memory cannot be
   * transferred and are copied. Without a worker nothing is copied, and this has no effect.
   */
  transfer?: boolean | undefined;
}

/** The milliseconds that a picture took on the computing thread. A browser's clock may be coarse: 0.1 to 1 ms. */
export interface Timing {
  /** Drawing it at the size for the engine and reading its pixels. Almost 0 if `detect` got pixels. */
  pixels: number;
  /** Scaling it to the input size, and running the network. */
  network: number;
  /** Decoding the network's output, NMS and tracking. */
  boxes: number;
}

export interface WatchOptions {
  /** Ends the loop, without an error. */
  signal?: AbortSignal | undefined;
  /** Track objects: those seen in several frames have a `trackId`. Each loop counts its own from 0. */
  track?: boolean | undefined;
}

/** The result for one frame of a video. */
export interface WatchedFrame {
  objects: DetectedObject[];
  frame: {
    /** `videoWidth` of the frame. Boxes are in its pixels. */
    width: number;
    height: number;
    /** `currentTime` of the video when the frame was taken, in seconds. */
    time: number;
    /** Frames shown since the last result that were skipped. */
    dropped: number;
    /** From taking the frame to its objects, including the messages to and from the worker. */
    milliseconds: number;
  };
}

/**
 * Finds objects in pictures and videos, on this machine. Nothing is sent anywhere.
 *
 * It works behind a proxy, such as that of Vue's `ref` and `reactive`.
 *
 * ```js
 * const detector = await Detector.load();
 * const objects = await detector.detect(document.images[0]);
 * // [{ label: "cat", classId: 15, score: 0.86, box: { x: 0, y: 0, width: 412, height: 300 } }]
 * detector.dispose();
 * ```
 */
export class Detector {
  private constructor();

  /**
   * Loads engine and model in parallel. Simultaneous calls share the downloads of the same files. After a failure the
   * next call tries again.
   *
   * @throws {MicroYoloError} `aborted`, `network`, `no-simd`, `unsupported`, `worker-failed`, `invalid-engine`,
   * `invalid-model`, `unsupported-model`, `model-too-large`, `unsupported-operator`, `needs-tract`, `invalid-option`,
   * `crashed`
   */
  static load(options?: LoadOptions): Promise<Detector>;

  /** The model's class names, by `classId`. */
  readonly labels: readonly string[];

  /**
   * The nodes of the model that the engine does not support; empty for the models of this project. The full engines run
   * these nodes with tract; the plain engines refuse such a model. The fewer there are, the faster the model runs.
   */
  readonly foreign: readonly Readonly<ForeignNode>[];

  /** Which engine computes. `relaxed-simd` is faster than `simd128`; `threads` is `relaxed-simd` with several threads. */
  readonly build: "simd128" | "relaxed-simd" | "threads";
  /** How many threads compute: see `LoadOptions.threads`. */
  readonly threads: number;
  /** Whether it computes in a separate worker: see `LoadOptions.worker`. */
  readonly worker: boolean;

  /**
   * The times of the last picture, `undefined` before the first. A call also takes time to decode the source, for
   * messages to and from the worker, and to wait for earlier calls.
   */
  readonly timing: Readonly<Timing> | undefined;

  /** The size in pixels to which pictures are scaled for the network. */
  readonly inputSize: Readonly<{ width: number; height: number }>;

  /**
   * See `DetectorSettings`. Can be set at any time and applies to later calls. Setting an invalid value throws
   * `invalid-option`.
   */
  scoreThreshold: number;
  /** See `scoreThreshold`. */
  iouThreshold: number;
  /** See `scoreThreshold`. */
  maxDetections: number;
  /** See `scoreThreshold`; `undefined` means all. Reading it returns a frozen copy of the array that was set. */
  classes: readonly (string | number)[] | undefined;

  /**
   * Finds the objects of one picture, best score first. Frames are processed in the order in which they are ready: a URL
   * or file that is still loading does not hold up later calls. The content of a canvas, loaded image, bitmap or pixel
   * buffer is read at the call. You may change or close it right afterwards.
   *
   * @throws {MicroYoloError} `not-loaded`, `tainted`, `invalid-image`, `image-too-large`, `invalid-source`,
   * `invalid-option`, `network`, `aborted`, `disposed`, `crashed`, `inference-failed`, `unsupported`
   */
  detect(source: ImageSource, options?: DetectOptions): Promise<DetectedObject[]>;

  /**
   * Finds the objects of a video while it plays, always in its newest frame. Frames that arrive while another is
   * processed are dropped, not queued. No frame is processed twice, with rare exceptions in browsers without
   * `requestVideoFrameCallback` (Firefox before 132) and in Firefox under heavy load.
   *
   * - It waits until the video has loaded, while it is paused, and while the page is hidden. After a seek in a
   *   paused video, it detects in the new frame.
   * - It continues when `src` or `srcObject` changes.
   * - It ends when the video ends, when the camera stops, when the source is removed, by the signal, and by `return()` or
   *   `break`, also while it waits. For a video that has already ended it yields one result. Call it again to start again.
   *
   * ```js
   * for await (const { objects, frame } of detector.watch(video, { signal })) draw(objects);
   * ```
   *
   * @throws {MicroYoloError} The call itself throws `invalid-option` and `invalid-source` (not a `<video>`). The iterator
   * throws the others of `detect`, except that it waits until the video has loaded: `invalid-image` if it cannot be
   * played, `network` if the connection fails while it plays.
   */
  watch(video: HTMLVideoElement, options?: WatchOptions): AsyncGenerator<WatchedFrame, void, void>;

  /** Frees everything. Pending and later calls reject with code `disposed`. Calling it again has no effect. */
  dispose(): void;
  /** The same as `dispose()`, for `using`. */
  [Symbol.dispose](): void;
}

/**
 * | code | what happened, and what to do |
 * |---|---|
 * | `aborted` | the given signal was aborted; the signal's reason is in `cause` |
 * | `crashed` | the engine trapped: this detector cannot be used any more, load a new one. Please report it |
 * | `disposed` | the detector was disposed of |
 * | `image-too-large` | pixels with a side above 16384, or pixels or a canvas larger than memory or the browser can hold: scale them down. Or a URL with more than 256 MiB, where the download stops: fetch it yourself and pass the `Blob` |
 * | `inference-failed` | the network failed while running, or its output has scores that are `NaN` or above 1, or boxes that are `NaN`: the message says which |
 * | `invalid-engine` | the `wasm` file is broken, not an engine, too long, or of another version of this package; the message names it |
 * | `invalid-image` | not a picture or video the browser can decode, an empty one, a file that ends before its first pixel, a `Blob` that can no longer be read, or pixels of the wrong length; the message says if the server sent a web page instead |
 * | `invalid-model` | the model is not an intact ONNX file, it is a `Blob` that can no longer be read, or its SHA-256 is not `sha256`; the message says if the server sent a web page instead |
 * | `invalid-option` | an option out of its range (`NaN`, negative …), of the wrong type, or one that does not exist |
 * | `invalid-source` | `detect` was given something that is not a picture |
 * | `model-too-large` | the model needs more memory, nodes or work than `limits` allows, or its file alone is larger than `limits.memoryBytes`, where a download stops: the message says how much |
 * | `needs-tract` | the plain engine does not run the model. `micro-yolo/small` and `micro-yolo/inline` have only plain engines; import `micro-yolo`, or remove the option `wasm` |
 * | `network` | engine, model, picture, the rest of a video or a module of the package could not be fetched: offline, 404, no CORS, a content security policy |
 * | `no-simd` | the browser's WebAssembly has no SIMD. The package needs Chrome 96, Firefox 102 or Safari 16.4 |
 * | `not-loaded` | the `<img>` has no source or the `<video>` no frame yet: wait for `load` or `loadeddata`. Also, after 5 s, a video whose frames the browser does not give out (protected, or in a page that was never shown) |
 * | `tainted` | the picture came from another site without CORS, so the browser hides its pixels |
 * | `unsupported` | the platform lacks something or forbids it, and the message says what: WebAssembly (a content security policy without `wasm-unsafe-eval`, a browser too old), workers, canvases (Node has none; some browsers give noise instead of pixels), an address to find the package's files by |
 * | `unsupported-model` | an intact ONNX file, but not of a form that this package runs |
 * | `unsupported-operator` | the model uses an operator that is not supported; the message names it |
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
