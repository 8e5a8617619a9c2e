import assert from "node:assert/strict";
import { test } from "node:test";
import { classColor, createPalette, drawObjects } from "../../pkg/draw.js";
import { placeLabels } from "../../pkg/labels.js";

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

test("what is no way to fit draws no boxes, and what is no text no label", () => {
  assert.deepEqual(drawn([object(10, 20, 50, 30)], { fit: "squeeze" }).boxes.filter((one) => one.every(Number.isFinite)), []);
  // A number, in a canvas that is too narrow for it.
  assert.equal(drawn([object(10, 20, 9, 9)], { label: () => 123_456_789 }, { width: 50, height: 100 }).texts[0][1], "12…89");
  assert.deepEqual(drawn([object(10, 20, 9, 9)], { label: () => undefined }).texts, []);
});

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
    // Two canvas pixels for each of CSS.
    { fit: "none", pixelRatio: 2, box: [120, 40, 100, 60] },
    { fit: "none", pixelRatio: 1, box: [160, 70, 50, 30] },
    { fit: "scale-down", pixelRatio: 3, box: [120, 40, 100, 60] },
    { fit: "scale-down", pixelRatio: 1, box: [160, 70, 50, 30] },
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

test("what is no canvas, no list and no size is an error, and where nothing is drawn at all there is none", () => {
  const { canvas } = recorder({ width: 100, height: 100 });
  const size = { width: 100, height: 100 };
  const refused = [
    [[null, [], size], /on a <canvas>, not null/],
    [[{}, [], size], /on a <canvas>, not Object/],
    [[canvas, Promise.resolve([]), size], /not Promise: await detect\(\)/],
    [[canvas, undefined, size], /not undefined$/],
    [[canvas, []], /size of the picture/],
  ];
  for (const [given, message] of refused) assert.throws(() => drawObjects(...given), { code: "invalid-option", message });
  drawObjects({ width: 100, height: 100, getContext: () => null }, [object(1, 1, 5, 5)], size); // As in jsdom.
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

test("colours of twelve classes are apart, and a class keeps its own", () => {
  const color = createPalette();
  const given = ["person", "laptop", "bowl", "dog"].map((label) => color({ label }));
  assert.equal(new Set(given).size, 4);
  assert.deepEqual(["dog", "bowl", "laptop", "person"].map((label) => color({ label })), [...given].reverse());
  const palette = Array.from({ length: 8 }, (_, id) => String(id)).reduce((all, label) => [...all, color({ label })], given);
  assert.equal(new Set(palette).size, 12);
  const rgb = palette.map((hex) => [1, 3, 5].map((start) => Number.parseInt(hex.slice(start, start + 2), 16)));
  for (const [index, one] of rgb.entries()) {
    for (const other of rgb.slice(index + 1)) assert.ok(Math.hypot(...one.map((value, part) => value - other[part])) > 40, `${one} ${other}`);
    // Dark text on it: 7 to 1.
    const [r, g, b] = one.map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    assert.ok((0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05) / (0.0075 + 0.05) > 7, palette[index]);
  }
});

test("labels do not cover each other and stay inside", () => {
  const canvas = { width: 300, height: 200 };
  const label = (left, top, width, height) => ({ box: { left, top, width, height }, width: 80, height: 20 });
  const boxes = [[50, 60, 90, 90], [52, 60, 90, 90], [54, 61, 80, 80], [0, 0, 300, 200], [270, 0, 30, 30], [0, 190, 20, 10]];
  const places = placeLabels(boxes.map((one) => label(...one)), canvas);
  assert.deepEqual(places[0], { left: 50, top: 40, width: 80, height: 20 }, "above the box, where there is room");
  for (const [index, one] of places.entries()) {
    assert.ok(one, `label ${index} has a place`);
    assert.ok(one.left >= 0 && one.top >= 0 && one.left + 80 <= 300 && one.top + 20 <= 200, JSON.stringify(one));
    for (const other of places.slice(index + 1)) {
      const apart = Math.abs(one.left - other.left) >= 80 || Math.abs(one.top - other.top) >= 20;
      assert.ok(apart, `${JSON.stringify(one)} and ${JSON.stringify(other)}`);
    }
  }
  // Twenty in the same small place: some get none, and none covers another.
  const many = placeLabels(Array.from({ length: 20 }, () => label(0, 0, 80, 40)), canvas).filter(Boolean);
  assert.ok(many.length >= 2 && many.length < 20, String(many.length));
  assert.equal(new Set(many.map(({ left, top }) => `${left} ${top}`)).size, many.length);
});

test("a label lies at its box: outside of a small one, and none where the box is out of sight", () => {
  const canvas = { width: 300, height: 200 };
  const label = (left, top, width, height) => ({ box: { left, top, width, height }, width: 80, height: 20 });
  const cases = [
    { box: [50, 60, 90, 90], at: [50, 40] },
    { box: [50, 10, 90, 90], at: [50, 10], why: "no room above: inside" },
    { box: [50, 10, 90, 30], at: [50, 40], why: "it would cover the object: below" },
    { box: [100, 0, 20, 200], at: [100, 0], why: "from edge to edge" },
    { box: [280, 60, 20, 90], at: [220, 40], why: "moved in" },
    { box: [-500, -500, 2000, 2000], at: [0, 0], why: "what is seen of it" },
    { box: [400, 60, 90, 90], at: undefined },
    { box: [50, -90, 90, 80], at: undefined },
    { box: [NaN, 60, 90, 90], at: undefined },
  ];
  for (const { box, at, why } of cases) {
    const [place] = placeLabels([label(...box)], canvas);
    assert.deepEqual(place && [place.left, place.top], at, `${box} ${why}`);
  }
  assert.deepEqual(placeLabels([label(0, 0, 9, 9)], { width: 79, height: 200 }), [undefined], "wider than the canvas");
});

test("a flood of objects is labelled with few tries for each, however tall the boxes are", () => {
  const labels = Array.from({ length: 5000 }, (_, id) => ({ box: { left: id % 71, top: id % 67, width: 1900, height: 1000 }, width: 80, height: 20 }));
  let tries = 0;
  const canvas = {
    get width() {
      tries += 1;
      return 2000;
    },
    height: 1100,
  };
  const placed = placeLabels(labels, canvas).filter(Boolean).length;
  assert.ok(placed > 20, `${placed} are placed`);
  // A box has room for 50 rows of labels, each at two edges.
  assert.ok(tries / labels.length < 80, `${tries / labels.length} for each`);
});

/** What is drawn of objects on a canvas of 200 x 100 with a picture as large. */
function drawn(objects, options, canvasSize = { width: 200, height: 100 }) {
  const { canvas, calls, boxes } = recorder(canvasSize);
  drawObjects(canvas, objects, { width: 200, height: 100, ...options });
  return { canvas, calls, boxes: boxes(), rects: calls.filter(([name]) => name === "roundRect"), texts: calls.filter(([name]) => name === "fillText") };
}

test("lines at the edge of the canvas are whole, and nothing is too small to be seen", () => {
  const cases = [
    { box: [0, 0, 200, 100], lines: [2, 4, 3, 5] },
    { box: [50, 50, 0, 0], lines: [2, 3] },
    { box: [200, 100, 0, 0], lines: [2, 3] },
  ];
  for (const { box, lines } of cases) {
    for (const lineWidth of lines) {
      const [, [x, y, width, height, line]] = drawn([object(...box)], { lineWidth }).boxes;
      assert.ok(width >= 1 && height >= 1, String([box, width, height]));
      assert.ok(x >= line / 2 && y >= line / 2, String([box, x, y, line]));
      assert.ok(x + (box[2] && width) + line / 2 <= 200 && y + (box[3] && height) + line / 2 <= 100, String([box, x, y, width, height, line]));
    }
  }
});

test("a label that is wider than the canvas is cut, and keeps its percentage", () => {
  const { texts, rects } = drawn([object(0, 50, 9, 9, { label: "a very long class name" })]);
  assert.equal(texts[0][1], "a very long class… 90 %");
  assert.ok(rects[0][3] <= 200);
  assert.equal(drawn([object(0, 50, 9, 9)], {}, { width: 12, height: 100 }).texts.length, 0, "there is no room for a letter");
});

test("labels are drawn in Firefox before 116, which has no box of a font", () => {
  const { canvas, calls } = recorder({ width: 200, height: 100 });
  canvas.getContext().measureText = (text) => ({ width: text.length * 8 });
  drawObjects(canvas, [object(50, 50, 20, 20)], { width: 200, height: 100 });
  const [, ...rect] = calls.find(([name]) => name === "roundRect");
  assert.ok(rect.slice(0, 4).every(Number.isFinite), String(rect));
});

test("in a page that is written from right to left labels are as elsewhere", () => {
  const { canvas } = drawn([object(50, 50, 20, 20)]);
  const { textAlign, direction } = canvas.getContext();
  assert.deepEqual([textAlign, direction], ["left", "ltr"]);
  assert.equal(drawn([object(50, 50, 20, 20)], { label: () => "חתול" }).canvas.getContext().direction, "inherit");
});

test("the highlighted one lies on top with a thicker line and the first place, the others are pale", () => {
  const objects = [object(20, 30, 50, 50, { score: 0.9 }), object(20, 30, 50, 50, { score: 0.3 })];
  const styles = [];
  const { canvas, calls } = recorder({ width: 200, height: 100 });
  const context = canvas.getContext();
  context.fillText = (text, left, top) => styles.push([text, top, context.globalAlpha]);
  drawObjects(canvas, objects, { width: 200, height: 100, highlighted: objects[1] });
  assert.deepEqual(calls.filter(([name]) => name === "strokeRect").map((call) => call.at(-1)), [4, 2, 6, 4]);
  const [pale, first] = styles;
  assert.deepEqual([pale[0], pale[2], first[0], first[2]], ["cat 90 %", 0.75, "cat 30 %", 1]);
  assert.ok(first[1] < pale[1], String(styles));
  assert.equal(context.globalAlpha, 1);
  styles.length = 0;
  drawObjects(canvas, objects, { width: 200, height: 100, highlighted: object(1, 1, 1, 1) });
  assert.deepEqual(styles.map(([, , alpha]) => alpha), [1, 1], "of another frame");
});

test("labels of tracks do not change places with the scores", () => {
  const places = (first, second) => {
    const objects = [object(20, 40, 50, 20, { score: first, trackId: 1 }), object(22, 40, 50, 20, { score: second, trackId: 2 })];
    const { texts, rects } = drawn(objects);
    return Object.fromEntries(texts.map(([, text], index) => [text.slice(0, 2), rects[index].slice(1, 3)]));
  };
  assert.deepEqual(places(0.5, 0.6), places(0.6, 0.5));
});

test("text on a dark colour is light, and a dark box has a light seam", () => {
  const { canvas } = recorder({ width: 200, height: 100 });
  const context = canvas.getContext();
  const used = (color) => {
    const styles = [];
    context.strokeRect = () => styles.push(context.strokeStyle);
    context.fillText = () => styles.push(context.fillStyle);
    drawObjects(canvas, [object(50, 50, 20, 20)], { width: 200, height: 100, color: () => color });
    return styles;
  };
  assert.deepEqual(used("#000080"), ["rgba(255, 255, 255, 0.55)", "#000080", "#fff"]);
  assert.deepEqual(used("#ffee00"), ["rgba(0, 0, 0, 0.55)", "#ffee00", "#10151c"]);
});

test("a canvas has no more pixels than every browser makes", () => {
  const { canvas } = drawn([object(0, 0, 9, 9)], { pixelRatio: 3 }, { width: 1, height: 1, cssWidth: 1200, cssHeight: 20_000 });
  assert.ok(canvas.width * canvas.height <= 2 ** 24 * 1.01, `${canvas.width} x ${canvas.height}`);
  assert.ok(Math.abs(canvas.height / canvas.width - 20_000 / 1200) < 0.1);
});

test("a canvas without a size in CSS keeps its pixels, however often it is drawn on", () => {
  for (const padding of [0, 10]) {
    const { canvas, boxes } = recorder({ width: 300, height: 150 });
    // Its layout follows its pixels.
    Object.defineProperties(canvas, {
      clientWidth: { get: () => canvas.width + 2 * padding },
      clientHeight: { get: () => canvas.height + 2 * padding },
    });
    for (const pixelRatio of [1, 2, 2, 1.25]) {
      drawObjects(canvas, [object(10, 20, 50, 30)], { width: 100, height: 100, pixelRatio });
      assert.deepEqual([canvas.width, canvas.height], [300, 150], `padding ${padding}, ratio ${pixelRatio}`);
      assert.deepEqual(boxes().at(-1), [30, 30, 150, 45, 2]);
    }
    canvas.width = 600; // The page's own doing.
    drawObjects(canvas, [], { width: 100, height: 100, pixelRatio: 2 });
    assert.deepEqual([canvas.width, canvas.height], [600, 150]);
  }
});
