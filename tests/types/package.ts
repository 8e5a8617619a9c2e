// What must compile, and what must not. Checked by `tsc`, never run.
import { Detector, MicroYoloError, type DetectedObject, type ErrorCode, type ImageSource } from "micro-yolo";
import { classColor, createPalette, drawObjects } from "micro-yolo/draw";
import type { MicroYoloElement, MicroYoloElementEventMap } from "micro-yolo/element";
import { Detector as InlineDetector } from "micro-yolo/inline";
import { Detector as SmallDetector } from "micro-yolo/small";
import type * as implementation from "../../pkg/detector.js";
import type * as loader from "../../pkg/load.js";
import type { Parts } from "../../pkg/parts.js";

export async function compiles(video: HTMLVideoElement, canvas: HTMLCanvasElement, signal: AbortSignal): Promise<void> {
  using detector: Detector = await Detector.load({
    model: new URL("https://example.org/model.onnx"),
    wasm: new Uint8Array(8),
    worker: false,
    signal,
    onProgress: ({ loaded, total }) => void (total === undefined ? loaded : loaded / total),
    scoreThreshold: 0.5,
    classes: ["cat", 16],
    inputSize: { width: 320, height: 224 },
    limits: { memoryBytes: 2 ** 31, macs: Infinity },
  });
  const sources: ImageSource[] = [
    video,
    canvas,
    new Image(),
    new OffscreenCanvas(1, 1),
    new ImageData(1, 1),
    await createImageBitmap(video),
    new VideoFrame(video),
    new Blob(),
    new File([], "x"),
    "cat.jpg",
    new URL("https://example.org"),
    { data: new Uint8Array(4), width: 1, height: 1 },
  ];
  const objects: DetectedObject[] = await detector.detect(sources[0], { signal, transfer: true });
  const [{ label, classId, score, box, trackId }] = objects;
  const text: string = label;
  const numbers: number[] = [classId, score, box.x, box.y, box.width, box.height, trackId ?? -1];
  void [text, numbers];
  for await (const { objects, frame } of detector.watch(video, { signal, track: true })) {
    drawObjects(canvas, objects, frame);
    drawObjects(canvas, objects, { width: frame.width, height: frame.height, fit: "cover", color: () => classColor(1) });
    drawObjects(canvas, objects, { ...frame, highlighted: objects[0], color: createPalette() });
  }
  detector.scoreThreshold = 0.3;
  detector.classes = undefined;
  detector.maxDetections = Infinity;
  detector.classes = ["dog"] as const;
  const inWorker: boolean = detector.worker;
  const { pixels, network, boxes } = detector.timing ?? { pixels: 0, network: 0, boxes: 0 };
  const all: number = pixels + network + boxes;
  const others: Detector[] = [await InlineDetector.load({ threads: 2 }), await SmallDetector.load()];
  const reasons: string[] = detector.foreign.map(({ name, operator, reason }) => `${name} (${operator}): ${reason}`);
  void [inWorker, all, others, reasons];
  const element: MicroYoloElement = document.createElement("micro-yolo");
  element.classes = ["cat", 16];
  element.inputSize = 320;
  element.track = null;
  const read: [string, string, string, number, number, boolean] = [
    element.classes,
    element.inputSize,
    element.model,
    element.scoreThreshold,
    element.threads,
    element.track,
  ];
  void read;
  element.addEventListener("detect", ({ detail }) => void detail.objects[0].label.length);
  element.addEventListener("detect-error", ({ detail }) => void detail.error.code);
  const listener = ({ detail }: MicroYoloElementEventMap["detect"]) => void detail.objects.length;
  element.addEventListener("detect", listener);
  element.removeEventListener("detect", listener, { capture: true });
  element.removeEventListener("other", { handleEvent: (event: Event) => void event.type }, true);
  try {
    await detector.detect(video);
  } catch (error) {
    if (error instanceof MicroYoloError && error.code === "not-loaded") return;
  }
}

export async function mustNotCompile(detector: Detector, canvas: HTMLCanvasElement): Promise<void> {
  // @ts-expect-error Detectors come from load().
  new Detector();
  // @ts-expect-error Not a threshold.
  await Detector.load({ scoreThreshold: "high" });
  // @ts-expect-error No such option.
  await Detector.load({ treshold: 0.5 });
  // @ts-expect-error Not a picture.
  await detector.detect(42);
  // @ts-expect-error Only bytes are pixels.
  await detector.detect({ data: new Float32Array(4), width: 1, height: 1 });
  // @ts-expect-error A canvas does not play.
  detector.watch(canvas);
  // @ts-expect-error The model's names are not ours to change.
  detector.labels = [];
  // @ts-expect-error No such limit.
  await Detector.load({ limits: { seconds: 5 } });
  // @ts-expect-error What the engine lacks is not ours to change.
  detector.foreign[0].reason = "";
  // @ts-expect-error Nor are they one by one.
  detector.labels.push("unicorn");
  // @ts-expect-error They are set as a whole.
  detector.classes?.push("cat");
  // @ts-expect-error Sizes are needed.
  drawObjects(canvas, [], {});
  // @ts-expect-error Not a way to fit.
  drawObjects(canvas, [], { width: 1, height: 1, fit: "stretch" });
  // @ts-expect-error Not one of the codes.
  const code: ErrorCode = "oops";
  // @ts-expect-error A promise is not an array.
  const objects: DetectedObject[] = detector.detect(canvas);
  void [code, objects];
}

/** Without the method that the code adds only where browsers have the symbol. */
type Disposable = Omit<Detector, typeof Symbol.dispose>;

// The hand-written declarations describe the code: what the one makes is what the other promises.
declare const implemented: typeof implementation.Detector;
declare const open: typeof loader.load;
declare const parts: Parts;
export const load: (options?: Parameters<typeof Detector.load>[0]) => Promise<Disposable> = (options) =>
  open(implemented, parts, options);
