import assert from "node:assert/strict";
import { test } from "node:test";
import { classColor, drawObjects } from "../../pkg/draw.js";

/** A canvas that writes down what is drawn on it. Text is 8 px wide a letter. */
function recorder({ width, height, cssWidth, cssHeight }) {
  const calls = [];
  const context = new Proxy(
    { measureText: (text) => ({ width: text.length * 8, fontBoundingBoxAscent: 10, fontBoundingBoxDescent: 4 }) },
    {
      get(target, name) {
        if (name in target) return target[name];
        return (...values) => void calls.push([name, ...values, target.lineWidth]);
      },
    },
  );
  const canvas = { width, height, getContext: () => context };
  if (cssWidth) Object.assign(canvas, { clientWidth: cssWidth, clientHeight: cssHeight });
  context.canvas = canvas;
  calls.length = 0;
  return { canvas, boxes: () => calls.filter(([name]) => name === "strokeRect").map(([, ...rest]) => rest), calls };
}

const object = (x, y, width, height, more) => ({ label: "cat", classId: 15, score: 0.9, box: { x, y, width, height }, ...more });

test("the canvas gets the screen's pixels, and lines whole ones", () => {
  const { canvas, boxes } = recorder({ width: 300, height: 150, cssWidth: 333, cssHeight: 111 });
  drawObjects(canvas, [object(10.3, 20.7, 50, 30)], { width: 100, height: 100, pixelRatio: 1.5 });
  assert.deepEqual([canvas.width, canvas.height], [500, 167]);
  const [, [x, y, width, height, line]] = boxes();
  assert.equal(line, 3);
  // An odd line is sharp on half a pixel.
  assert.deepEqual([x % 1, y % 1, width % 1, height % 1], [0.5, 0.5, 0, 0]);
});

test("boxes lie where the picture lies", () => {
  const cases = [
    // A 100 x 100 picture in 400 x 200.
    { fit: "fill", box: [40, 40, 200, 60] },
    { fit: "contain", box: [120, 40, 100, 60] },
    { fit: "cover", box: [40, -20, 200, 120] },
    { fit: "contain", mirror: true, box: [180, 40, 100, 60] },
  ];
  for (const { box, ...options } of cases) {
    const { canvas, boxes } = recorder({ width: 400, height: 200 });
    drawObjects(canvas, [object(10, 20, 50, 30)], { width: 100, height: 100, lineWidth: 2, ...options });
    const [, [x, y, width, height]] = boxes();
    assert.deepEqual([x, y, width, height], box, JSON.stringify(options));
  }
});

test("labels stay inside the canvas", () => {
  for (const [x, y] of [[0, 0], [95, 0], [0, 95], [95, 95]]) {
    const { canvas, calls } = recorder({ width: 200, height: 200 });
    drawObjects(canvas, [object(x, y, 5, 5)], { width: 100, height: 100 });
    const [, left, top, width, height] = calls.find(([name]) => name === "roundRect");
    assert.ok(left >= 0 && top >= 0 && left + width <= 200 && top + height <= 200, `${[x, y]}: ${[left, top, width, height]}`);
  }
});

test("the surest box lies on top, with the text that was asked for", () => {
  const { canvas, calls } = recorder({ width: 100, height: 100 });
  const objects = [object(0, 0, 9, 9, { score: 0.8, trackId: 4 }), object(0, 0, 9, 9, { score: 0.3 })];
  drawObjects(canvas, objects, { width: 100, height: 100 });
  const texts = () => calls.filter(([name]) => name === "fillText").map(([, text]) => text);
  assert.deepEqual(texts(), ["cat 30 %", "#4 cat 80 %"]);
  assert.deepEqual(objects.map(({ score }) => score), [0.8, 0.3], "the caller's array is left alone");
  calls.length = 0;
  drawObjects(canvas, objects, { width: 100, height: 100, label: () => "" });
  assert.deepEqual(texts(), []);
});

test("nothing to draw clears, and an unknown size draws nothing", () => {
  const { canvas, calls } = recorder({ width: 100, height: 100 });
  drawObjects(canvas, [], { width: 100, height: 100 });
  drawObjects(canvas, [object(1, 1, 5, 5)], { width: 0, height: 0 });
  assert.deepEqual(calls.map(([name]) => name).filter((name) => name !== "setTransform"), ["clearRect", "clearRect"]);
});

test("classes have colours that are far apart, in the notation that every browser knows, and dark text is read on them", () => {
  const colors = Array.from({ length: 80 }, (_, id) => classColor(id));
  for (const color of colors) assert.match(color, /^rgb\(\d+, \d+, \d+\)$/);
  const channels = colors.map((color) => color.match(/\d+/g).map(Number));
  for (let id = 1; id < 80; id += 1) {
    const apart = Math.hypot(...channels[id].map((value, at) => value - channels[id - 1][at]));
    assert.ok(apart > 80, `${id - 1} and ${id}: ${apart}`);
  }
  // Relative luminance of WCAG; that of the text, #10151c, is 0.007.
  const linear = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  for (const [id, [r, g, b]] of channels.entries()) {
    const luminance = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    assert.ok((luminance + 0.05) / (0.007 + 0.05) > 7, `${id}: ${colors[id]}`);
  }
  // oklch(0.82 0.16 145), as Chromium converts it.
  assert.deepEqual([classColor(0), new Set(colors).size], ["rgb(124, 223, 129)", 80]);
});

test("a browser without rounded rectangles gets others", () => {
  const { canvas, calls } = recorder({ width: 100, height: 100 });
  canvas.getContext().roundRect = undefined;
  drawObjects(canvas, [object(1, 1, 5, 5)], { width: 100, height: 100 });
  assert.ok(calls.some(([name]) => name === "rect"), JSON.stringify(calls));
});
