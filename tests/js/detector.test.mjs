// The package in Node, where there are no pictures: engine, settings and memory.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { before, test } from "node:test";
import { Detector, MicroYoloError } from "../../pkg/index.js";

const at = (path) => new URL(`../../${path}`, import.meta.url);

/** Grows only; read after the work is done. */
let memory;
let options;

before(async () => {
  // The instance's memory is nobody's business in the package, so the test takes it where it is made.
  const instantiate = WebAssembly.instantiate;
  WebAssembly.instantiate = async (...values) => {
    const result = await instantiate(...values);
    memory = (result.instance ?? result).exports.memory;
    return result;
  };
  const [wasm, model] = await Promise.all(
    ["pkg/wasm/micro_yolo_bg.wasm", "tests/e2e/fixtures/red-spot.onnx"].map((path) => readFile(at(path))),
  );
  options = { wasm: await WebAssembly.compile(wasm), model, worker: false };
});

function spot(width, height, { x, y, w, h }) {
  const data = new Uint8Array(width * height * 4).fill(255);
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    const [column, row] = [pixel % width, Math.floor(pixel / width)];
    const red = column >= x && column < x + w && row >= y && row < y + h;
    data.set(red ? [255, 0, 0] : [110, 120, 130], pixel * 4);
  }
  return { data, width, height };
}

const code = (work) =>
  Promise.resolve()
    .then(work)
    .then(
      () => "fine",
      (error) => (error instanceof MicroYoloError ? error.code : error),
    );

test("the box is where the rectangle is", async () => {
  const detector = await Detector.load(options);
  const [{ label, classId, box, trackId }] = await detector.detect(spot(320, 240, { x: 40, y: 60, w: 120, h: 80 }));
  assert.deepEqual([label, classId, trackId], ["red spot", 0, undefined]);
  for (const [name, expected] of Object.entries({ x: 40, y: 60, width: 120, height: 80 })) {
    assert.ok(Math.abs(box[name] - expected) < 2, `${name} ${box[name]}`);
  }
  assert.deepEqual(detector.inputSize, { width: 160, height: 160 });
  detector.dispose();
});

test("memory stays flat over thousands of frames", async () => {
  const detector = await Detector.load(options);
  const frame = spot(640, 480, { x: 40, y: 60, w: 120, h: 80 });
  const settle = 20;
  let settled;
  for (let count = 0; count < 3000; count += 1) {
    if (count === settle) settled = memory.buffer.byteLength;
    detector.scoreThreshold = 0.2 + (count % 10) / 100;
    await detector.detect(frame);
  }
  assert.equal(memory.buffer.byteLength, settled);
  detector.dispose();
});

test("memory stays flat over loads and disposals, and over refused models", async () => {
  const cycle = async () => {
    const detector = await Detector.load(options);
    await detector.detect(spot(64, 64, { x: 1, y: 1, w: 20, h: 20 }));
    detector.dispose();
    assert.equal(await code(() => Detector.load({ ...options, model: options.model.subarray(0, 2000) })), "invalid-model");
    assert.equal(await code(() => Detector.load({ ...options, classes: ["unicorn"] })), "invalid-option");
  };
  for (let count = 0; count < 10; count += 1) await cycle();
  const settled = memory.buffer.byteLength;
  for (let count = 0; count < 40; count += 1) await cycle();
  assert.equal(memory.buffer.byteLength, settled);
});

test("any mutated model is refused or runs", async () => {
  let seed = 1;
  const random = (below) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0; // Numerical Recipes' generator: the same run each time.
    return seed % below;
  };
  const outcomes = {};
  for (let count = 0; count < 600; count += 1) {
    const model = Uint8Array.from(options.model);
    for (let flips = 1 + random(8); flips > 0; flips -= 1) model[random(model.length)] = random(256);
    const outcome = await code(async () => {
      const detector = await Detector.load({ ...options, model });
      try {
        await detector.detect(spot(50, 40, { x: 10, y: 10, w: 20, h: 20 }));
      } finally {
        detector.dispose();
      }
    });
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    assert.ok(
      ["fine", "invalid-model", "unsupported-model", "unsupported-operator", "inference-failed"].includes(outcome),
      `mutation ${count}: ${outcome}`,
    );
  }
  assert.ok(outcomes.fine > 0 && outcomes["invalid-model"] > 0, JSON.stringify(outcomes));
});
