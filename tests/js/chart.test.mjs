// The pictures of the bench can be read: names do not cover each other or a point.
import assert from "node:assert/strict";
import { test } from "node:test";
import { bars, scatter } from "../../benches/browser/chart.mjs";

/** The texts of a picture. */
const texts = (svg) => [...svg.matchAll(/<text x="([\d.]+)" y="([\d.]+)"(?: text-anchor="(\w+)")?>([^<]*)</g)].map(([, x, y, anchor, text]) => ({ x: Number(x), y: Number(y), anchor, text }));

test("of networks that are close to each other, each has a name of its own", () => {
  const point = (name, runtime, frame, accuracy) => ({ name, runtime, frame, accuracy });
  const svg = scatter([
    point("micro-yolo", "micro-yolo int8", 8.8, 43.1),
    point("micro-yolo", "onnxruntime-web f32", 50.2, 42.7),
    point("NanoDet-Plus-m", "onnxruntime-web f32", 58.3, 44.2),
    point("YOLOX-Nano", "onnxruntime-web f32", 54.8, 42.6),
    point("alone", "micro-yolo f32", 94.8, 20),
  ]);
  const [micro, nanodet, yolox, alone] = ["micro-yolo", "NanoDet-Plus-m", "YOLOX-Nano", "alone"].map((name) => texts(svg).find(({ text }) => text === name));
  const circles = [...svg.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"/g)].map(([, x, y]) => ({ x: Number(x), y: Number(y) }));
  // Left of its first point, because the others are right of its last.
  assert.deepEqual([micro.anchor, micro.x], ["end", circles[0].x - 9]);
  assert.ok(Math.abs(nanodet.y - yolox.y) >= 12, `${nanodet.y} and ${yolox.y}`);
  assert.deepEqual([alone.anchor, alone.x, alone.y], [undefined, circles[4].x + 9, circles[4].y + 4]);
});

test("bars name the engine and not a network", () => {
  const row = (runtime, frame, ratio) => ({ network: "yolov3-tiny", size: 416, runtime, frame, ratio });
  const svg = bars([row("onnxruntime-web f32", 161.4, 1), row("micro-yolo f32", 94.8, 1.7), row("micro-yolo int8, simd128", 60, 2.7)]);
  const names = texts(svg).map(({ text }) => text).filter((text) => !text.includes("×"));
  assert.deepEqual(names, ["onnxruntime-web, floats", "this engine, floats", "this engine, int8, simd128"]);
});
