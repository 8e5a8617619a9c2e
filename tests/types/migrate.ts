// The code of docs/migrate.md. Checked by `tsc`, never run; a test compares the two.
import { Detector } from "micro-yolo";

declare const image: HTMLImageElement;
declare const video: HTMLVideoElement;
declare const signal: AbortSignal;

export async function cocoSsd(): Promise<void> {
  const detector = await Detector.load({ scoreThreshold: 0.5, maxDetections: 20 });
  for (const { label, score, box } of await detector.detect(image)) {
    console.log(label, score, [box.x, box.y, box.width, box.height]);
  }
  detector.dispose();
}

export async function mediaPipe(): Promise<void> {
  const detector = await Detector.load({ scoreThreshold: 0.4, maxDetections: 5, classes: ["cat", "dog"] });
  for await (const { objects, frame } of detector.watch(video, { signal })) {
    console.log(frame.time * 1000, objects.map(({ label, score }) => ({ categoryName: label, score })));
  }
}

export async function transformersJs(): Promise<void> {
  const detector = await Detector.load({ scoreThreshold: 0.5 });
  for (const { label, score, box } of await detector.detect("cat.jpg")) {
    console.log(label, score, { xmin: box.x, ymin: box.y, xmax: box.x + box.width, ymax: box.y + box.height });
  }
}

export async function onnxruntimeWeb(): Promise<void> {
  const detector = await Detector.load({ model: "my-yolo.onnx", threads: 2, iouThreshold: 0.45 });
  const { data, width, height } = new ImageData(640, 480);
  console.log(await detector.detect({ data, width, height }));
}
