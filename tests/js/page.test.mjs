// The parts of the page that need no browser.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile, readdir, stat } from "node:fs/promises";
import { test } from "node:test";
import vm from "node:vm";
import { FORMATS, fileName, momentName, toCoco, toCsv, toJson, toYolo } from "../../www/export.js";
import { isVideoFile, mayMove, recognise } from "../../www/files.js";
import { contained } from "../../www/layout.js";
import { FILES, MODELS, addOwn, allModels, modelOf, optionText } from "../../www/models.js";
import { objectAt, overlap, settle, sift } from "../../www/results.js";
import { SAMPLES } from "../../www/samples.js";
import { DEFAULTS, SIZES, remember, remembered, valid } from "../../www/settings.js";
import { fromHash, toHash } from "../../www/share.js";
import { Steady } from "../../www/steady.js";
import { Timing, niceTop, sum, typical } from "../../www/timing.js";
import { Trails } from "../../www/trails.js";

const at = (path) => new URL(`../../${path}`, import.meta.url);
const box = (x, y, width, height) => ({ x, y, width, height });
const object = (label, score, place, more) => ({ label, classId: 0, score, box: box(...place), ...more });

test("pictures that may move are told from those that do not", async () => {
  const pictures = at("tests/e2e/fixtures/pictures/");
  const moves = async (name, change = (bytes) => bytes) => mayMove(new Blob([change(await readFile(new URL(name, pictures)))]));
  const found = {};
  for (const name of await readdir(pictures)) found[name] = await moves(name);
  assert.deepEqual(found, {
    "animated.gif": true,
    "animated.webp": true,
    "cmyk.jpg": false,
    "palette.png": false,
    "progressive.jpg": false,
    "sixteen-bit.png": false,
    "spot.avif": false,
  });
  // APNG: its chunk is between IHDR and IDAT. The brand of an AVIF sequence; and SVG by its text.
  const control = Buffer.from("00000008" + Buffer.from("acTL").toString("hex") + "0000000200000000" + "00000000", "hex");
  assert.equal(await moves("palette.png", (bytes) => Buffer.concat([bytes.subarray(0, 33), control, bytes.subarray(33)])), true);
  assert.equal(await moves("spot.avif", (bytes) => Buffer.concat([bytes.subarray(0, 8), Buffer.from("avis"), bytes.subarray(12)])), true);
  assert.equal(await mayMove(new Blob(["<svg xmlns='http://www.w3.org/2000/svg'/>"])), true);
});

test("overlap is intersection over union", () => {
  // 10 × 10 each, shifted by (5, 5): 25 of 175.
  assert.ok(Math.abs(overlap(box(0, 0, 10, 10), box(5, 5, 10, 10)) - 1 / 7) < 1e-12);
  assert.equal(overlap(box(0, 0, 10, 10), box(10, 0, 10, 10)), 0);
  assert.equal(overlap(box(1, 2, 3, 4), box(1, 2, 3, 4)), 1);
});

test("rival classes in one place make one object", () => {
  const bus = object("bus", 0.57, [0, 0, 100, 50]);
  const truck = object("truck", 0.41, [2, 0, 100, 50]);
  const rider = object("person", 0.5, [20, 0, 40, 50]);
  const settled = settle([bus, rider, truck]);
  assert.deepEqual(settled.map(({ label }) => label), ["bus", "person"]);
  assert.deepEqual(settled[0].rival, { label: "truck", score: 0.41 });
  // Two boxes of one class are the detector's business.
  assert.equal(settle([bus, { ...truck, label: "bus" }]).length, 2);
  assert.equal("rival" in bus, false, "what was given is left alone");
});

test("the threshold parts what is seen from what is unsure, and a weak rival is not named", () => {
  const objects = [object("bus", 0.57, [0, 0, 9, 9]), object("truck", 0.25, [0, 0, 9, 9]), object("dog", 0.2, [50, 0, 9, 9])];
  const { seen, unsure } = sift(objects, { score: 0.3, classes: [] });
  assert.deepEqual([seen.map(({ label }) => label), unsure.map(({ label }) => label)], [["bus"], ["dog"]]);
  assert.equal(seen[0].rival, undefined);
  assert.equal(sift(objects, { score: 0.2, classes: [] }).seen[0].rival.label, "truck");
  // A class that is not wanted does not hide one that is.
  assert.deepEqual(sift(objects, { score: 0.2, classes: ["truck"] }).seen.map(({ label }) => label), ["truck"]);
});

test("of nested boxes the inner one is pointed at", () => {
  const table = object("dining table", 0.9, [0, 0, 100, 100]);
  const cup = object("cup", 0.5, [40, 40, 20, 20]);
  assert.equal(objectAt([table, cup], { x: 50, y: 50 }), cup);
  assert.equal(objectAt([table, cup], { x: 10, y: 10 }), table);
  assert.equal(objectAt([table, cup], { x: 101, y: 10 }), undefined);
});

test("a picture lies in the middle of its area", () => {
  assert.deepEqual(contained({ width: 400, height: 200 }, { width: 100, height: 100 }), { left: 100, top: 0, width: 200, height: 200, scale: 2 });
});

test("trails follow tracks and end with them", () => {
  const trails = new Trails();
  const seen = (x) => [object("cat", 0.9, [x, 0, 10, 10], { trackId: 0 }), object("dog", 0.9, [0, 0, 4, 4])];
  for (let x = 0; x < 100; x += 1) trails.add(seen(x));
  const [{ label, points }] = trails.list();
  assert.deepEqual([label, points.length, points[0], points.at(-1)], ["cat", 50, { x: 55, y: 5 }, { x: 104, y: 5 }]);
  for (let frame = 0; frame < 16; frame += 1) trails.add([]);
  assert.deepEqual(trails.list(), []);
});

/** What is above 40 %, by label, in each of the frames, 25 a second. */
function steadied(frames, start = 10) {
  const steady = new Steady();
  return frames.map((objects, index) => {
    const seen = sift(steady.add(objects, start + index / 25), { score: 0.4, classes: [] }).seen;
    return seen.map(({ label }) => label).sort().join();
  });
}
const times = (count, frame) => Array.from({ length: count }, () => frame);

test("in a film nothing flashes up or drops out for a frame or two", () => {
  const cat = object("cat", 0.7, [10, 10, 50, 40]);
  const bear = object("teddy bear", 0.6, [12, 8, 50, 44]);
  const dog = object("dog", 0.6, [100, 10, 50, 40]);
  // The first frame as it is; a wrong box of two frames is never seen; the cat is missed twice.
  const shown = steadied([[cat], ...times(8, [cat]), [cat, dog], [cat, dog], [cat], ...times(2, []), ...times(5, [cat])]);
  assert.deepEqual(new Set(shown), new Set(["cat"]));
  // A name that is right more often stays.
  const names = steadied(Array.from({ length: 30 }, (_, frame) => (frame % 3 === 1 ? [bear] : [cat])));
  assert.deepEqual(new Set(names), new Set(["cat"]));
  // What comes is there within a quarter of a second, and what goes is gone in that time.
  const come = steadied([...times(5, []), ...times(10, [cat]), ...times(10, [])]);
  assert.ok(come.indexOf("cat") <= 5 + 6, String(come));
  assert.equal(come.indexOf("", 11), come.lastIndexOf("cat") + 1);
  assert.ok(come.lastIndexOf("cat") <= 15 + 6, String(come));
});

test("after a seek a frame is shown as it is, and things that move stay themselves", () => {
  const steady = new Steady();
  const cat = (x, score = 0.8) => object("cat", score, [x, 0, 40, 40]);
  for (const time of [5, 90, 3]) assert.deepEqual(steady.add([cat(0)], time), [cat(0)]);
  steady.clear();
  assert.deepEqual(steady.add([cat(0), cat(100, 0.5)], 3), [cat(0), cat(100, 0.5)]);
  for (let frame = 1; frame < 10; frame += 1) {
    const seen = steady.add([cat(100 - 4 * frame, 0.5), cat(8 * frame)], 3 + frame / 25);
    assert.deepEqual(seen.slice(0, 2).map(({ box, score }) => [box.x, score.toFixed(2)]), [[8 * frame, "0.80"], [100 - 4 * frame, "0.50"]], `frame ${frame}`);
    if (frame === 4) break; // Later they meet.
  }
  // The clock of some cameras stands still for a frame.
  assert.equal(steady.add([object("dog", 0.9, [300, 0, 40, 40])], 3 + 4 / 25).some(({ label }) => label === "dog"), true);
});

test("a fast object keeps its box and its score, with and without tracks", () => {
  // 40 px wide, 35 px a frame: its boxes overlap by 7 % only.
  for (const more of [{}, { trackId: 0 }]) {
    const steady = new Steady();
    for (let frame = 0; frame < 20; frame += 1) {
      const [seen, ...rest] = steady.add([object("cat", 0.8, [35 * frame, 0, 40, 40], more)], frame / 25);
      assert.deepEqual([seen.box.x, seen.score.toFixed(2), rest.length], [35 * frame, "0.80", 0], `frame ${frame}`);
    }
  }
  // Two in a row, where each comes near to where the other was: the order in which they are found does not matter.
  const steady = new Steady();
  const row = (x) => [object("cat", 0.9, [x + 45, 0, 40, 40], { trackId: 1 }), object("cat", 0.5, [x, 0, 40, 40], { trackId: 0 })];
  for (let frame = 0; frame < 20; frame += 1) {
    const seen = steady.add(row(35 * frame), frame / 25);
    assert.deepEqual(seen.map(({ trackId, score }) => [trackId, score.toFixed(2)]), [[1, "0.90"], [0, "0.50"]], `frame ${frame}`);
  }
  // What is further off than its size is another one.
  assert.equal(steady.add([object("cat", 0.9, [35 * 19 + 150, 0, 40, 40])], 20 / 25).length, 3);
});

test("a track whose class flips is shown once", () => {
  const steady = new Steady();
  const seen = (label, frame) => steady.add([object(label, 0.8, [2 * frame, 0, 40, 40], { trackId: 0 })], frame / 25);
  for (let frame = 0; frame < 5; frame += 1) seen("cat", frame);
  const flipped = seen("dog", 5);
  assert.deepEqual(flipped.map(({ label, trackId, score }) => [label, trackId, score.toFixed(2)]), [["dog", 0, "0.80"]]);
  // A new track at its place, of the old one's class, does not take what belongs to the old one.
  const both = [object("dog", 0.9, [10, 0, 40, 40], { trackId: 1 }), object("dog", 0.8, [12, 0, 40, 40], { trackId: 0 })];
  const scores = steady.add(both, 6 / 25).map(({ trackId, score }) => [trackId, score.toFixed(2)]);
  assert.deepEqual([scores[0], scores.length, scores[1][0]], [[0, "0.80"], 2, 1]);
});

test("times are averaged, and a single picture counts as it is", () => {
  const timing = new Timing();
  timing.add({ pixels: 10, network: 28, boxes: 2, draw: 2 }, 1000);
  assert.deepEqual([timing.average, sum(timing.average), timing.rate], [{ pixels: 10, network: 28, boxes: 2, draw: 2 }, 42, undefined]);
  for (let frame = 1; frame <= 200; frame += 1) timing.add({ pixels: 3, network: 10, boxes: 0, draw: 1 }, 1000 + frame * 50);
  assert.ok(Math.abs(timing.average.network - 10) < 0.01);
  assert.ok(Math.abs(timing.rate - 20) < 1e-9, String(timing.rate));
  assert.equal(timing.frames.length, 120);
  assert.ok(timing.frames.every(({ network }) => network === 10), "the oldest go");
  assert.deepEqual([0, 0.3, 7, 12, 50, 51, NaN].map(niceTop), [10, 0.5, 10, 20, 50, 100, 10]);
});

test("of several looks at a picture the one in the middle is told", () => {
  const looks = (...all) => all.map((milliseconds) => ({ milliseconds }));
  assert.deepEqual(typical(looks(90, 31, 30, 300, 29)), { milliseconds: 31 });
  assert.deepEqual(typical(looks(90, 31)), { milliseconds: 31 });
  assert.deepEqual(typical(looks(90)), { milliseconds: 90 });
});

/** A storage as a browser has it. */
function storage(text) {
  const values = new Map(text === undefined ? [] : [["micro-yolo", text]]);
  return { getItem: (key) => values.get(key) ?? null, setItem: (key, value) => void values.set(key, value), values };
}

test("settings are remembered, and nothing bad is taken from memory", () => {
  const kept = storage();
  remember({ ...DEFAULTS, score: 55, iou: 60, compare: true, classes: ["cat"] }, () => kept);
  const back = remembered(() => kept);
  assert.deepEqual([back.score, back.iou, back.compare, back.classes], [55, 60, undefined, undefined]);
  remember({ ...DEFAULTS, model: "own-1" }, () => kept);
  assert.equal(remembered(() => kept).model, undefined);
  // The input size of a model that is not remembered is not one for the site's.
  for (const model of ["own-1", "https://example.org/m.onnx"]) {
    remember({ ...DEFAULTS, model, size: 640, score: 55 }, () => kept);
    const { size, score } = remembered(() => kept);
    assert.deepEqual([size, score], [undefined, 55], model);
  }
  remember({ ...DEFAULTS, model: "small-int8", size: 320 }, () => kept);
  assert.equal(remembered(() => kept).size, 320);
  for (const text of ["", "null", "3", "[]", "{", '{"score":"30"}', '{"score":5}', '{"score":1e99,"size":100}', '{"__proto__":{"score":40}}']) {
    assert.deepEqual(remembered(() => storage(text)), {}, text);
  }
  const forbidden = () => {
    throw new DOMException("no", "SecurityError");
  };
  assert.deepEqual(remembered(forbidden), {});
  remember({ ...DEFAULTS }, forbidden);
  assert.deepEqual(valid({ size: SIZES[0], model: "javascript:alert(1)", compare: "1", classes: [""], unknown: 1 }), { size: SIZES[0] });
});

test("a link restores the state it was made of", () => {
  const settings = { ...DEFAULTS, score: 42, iou: 50, model: "large-float", size: 416, compare: true, model2: "small-int8", classes: ["cat", "dining table"] };
  for (const source of [{ kind: "sample", name: "two-cups" }, { kind: "url", url: "https://example.org/a b.jpg?x=1&y=#z" }]) {
    const back = fromHash(toHash(source, settings));
    assert.deepEqual(back.source, source);
    assert.deepEqual({ ...DEFAULTS, ...back.settings }, settings);
  }
  assert.equal(toHash(undefined, DEFAULTS), "");
  assert.deepEqual(fromHash(""), { source: undefined, settings: {} });
  // A file's model has no address, and the second model is nobody's business without a comparison.
  assert.equal(toHash(undefined, { ...DEFAULTS, model: "own-1", model2: "small-int8" }), "");
  assert.equal(toHash(undefined, { ...DEFAULTS, model: "own-1", size: 640 }), "");
  const compared = { ...DEFAULTS, compare: true, size: 320, model2: "own-1", size2: 640 };
  assert.deepEqual(fromHash(toHash(undefined, compared)).settings, { model: DEFAULTS.model, size: 320, compare: true });
  // Names of somebody's own model.
  const classes = ["cup, mug", "100% wool", "a%2Cb", "plain"];
  assert.deepEqual(fromHash(toHash(undefined, { ...DEFAULTS, classes })).settings.classes, classes);
  assert.deepEqual(fromHash("#classes=cat,dining+table").settings.classes, ["cat", "dining table"]);
  // An off switch that the browser remembers as on.
  assert.equal(fromHash("#track=0").settings.track, false);
});

test("nothing bad is taken from a link", () => {
  const hashes = ["#score=abc&iou=5&size=33&model=../x", "#sample=../../etc", "#url=javascript:alert(1)", "#url=file:///etc", "#%", "#score=31.5"];
  for (const hash of hashes) assert.deepEqual(fromHash(hash), { source: undefined, settings: {} }, hash);
});

const found = {
  name: 'a,"b".jpg',
  width: 200,
  height: 100,
  model: "Small, int8",
  labels: ["person", "cat"],
  objects: [
    { label: "cat", classId: 1, score: 0.8066123, box: box(20, 10, 100.123456, 50), trackId: 0 },
    { label: "=person", classId: 0, score: 0.5, box: box(0, 0, 200, 100) },
  ],
};

test("JSON and CSV", () => {
  const json = JSON.parse(toJson(found));
  assert.deepEqual(json.objects[0], { label: "cat", classId: 1, score: 0.8066, box: box(20, 10, 100.12, 50), trackId: 0 });
  assert.deepEqual([json.image, json.width, json.height, json.model], [found.name, 200, 100, "Small, int8"]);
  const rows = toCsv(found).split("\r\n");
  assert.equal(rows[0], "image,image_width,image_height,label,class_id,score,x,y,width,height,track_id");
  assert.equal(rows[1], '"a,""b"".jpg",200,100,cat,1,0.8066,20,10,100.12,50,0');
  assert.match(rows[2], /,'=person,0,/, "no formula for a spreadsheet");
  assert.deepEqual([rows.length, rows[3]], [4, ""]);
});

test("COCO and YOLO", () => {
  const { images, annotations, categories } = JSON.parse(toCoco(found));
  assert.deepEqual(images, [{ id: 1, file_name: found.name, width: 200, height: 100 }]);
  assert.deepEqual(categories, [{ id: 1, name: "person" }, { id: 2, name: "cat" }]);
  assert.deepEqual(annotations[0], { id: 1, image_id: 1, category_id: 2, bbox: [20, 10, 100.12, 50], area: 5006, iscrowd: 0, score: 0.8066 });
  // Centre (70.06, 35) of 200 × 100, size 100.12 × 50.
  assert.equal(toYolo(found), "1 0.350309 0.350000 0.500617 0.500000\n0 0.500000 0.500000 1.000000 1.000000\n");
  assert.equal(toYolo({ ...found, objects: [] }), "");
});

test("a video is known by its type, or by its name where the type says nothing", () => {
  const videos = [["video/mp4", "x"], ["", "film.MP4"], ["application/octet-stream", "film.mp4"], [undefined, "scenes/tour.mp4"]];
  const others = [["image/png", "film.mp4"], ["", "cat.jpg"], ["application/octet-stream", "cat.jpg"], ["text/plain", "film.mp4"]];
  for (const [type, name] of videos) assert.equal(isVideoFile({ type, name }), true, `${type} ${name}`);
  for (const [type, name] of others) assert.equal(isVideoFile({ type, name }), false, `${type} ${name}`);
});

test("the content of a file decides what it is, and its name only if the content says nothing", async () => {
  const of = async (bytes, name, type) => {
    const { blob, isVideo, isKnown } = await recognise(new File([bytes], name, { type }));
    return [blob.type, isVideo, isKnown];
  };
  const pictures = { "cmyk.jpg": "jpeg", "palette.png": "png", "animated.gif": "gif", "animated.webp": "webp", "spot.avif": "avif" };
  for (const [file, type] of Object.entries(pictures)) {
    const bytes = await readFile(at(`tests/e2e/fixtures/pictures/${file}`));
    assert.deepEqual(await of(bytes, "film.mp4", "video/mp4"), [`image/${type}`, false, true], file);
    assert.deepEqual(await of(bytes, "no extension", ""), [`image/${type}`, false, true], file);
  }
  for (const [file, type] of [["data/samples/scenes/cat-film.mp4", "mp4"], ["tests/e2e/fixtures/cat.webm", "webm"]]) {
    const bytes = await readFile(at(file));
    for (const [name, claimed] of [["cat.jpg", "image/jpeg"], ["cat", ""], ["cat.mp4", "video/mp4"]]) {
      assert.deepEqual(await of(bytes, name, claimed), [`video/${type}`, true, true], `${file} as ${name}`);
    }
  }
  const beginnings = {
    "image/svg+xml": [
      "<svg xmlns='http://www.w3.org/2000/svg'/>",
      "\ufeff<?xml version='1.0'?>\n<!-- a > b -->\n<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'svg11.dtd' [<!ENTITY a 'b>'>]>\n<svg>",
    ],
    "image/heic": ["\0\0\0\x18ftypheic\0\0\0\0mif1heic", "\0\0\0\x18ftypmif1\0\0\0\0mif1heic"],
    "image/avif": ["\0\0\0\x1cftypmif1\0\0\0\0mif1avif"],
    "image/bmp": ["BM\x01\x02\x03\x04\0\0\0\0"],
    "image/x-icon": ["\0\0\x01\0\x01\0"],
    "video/quicktime": ["\0\0\0\x14ftypqt  ", "\0\0\0\x08wide\0\0"],
    "video/x-matroska": [Buffer.from("1a45dfa3934282886d6174726f736b61", "hex")],
  };
  for (const [type, all] of Object.entries(beginnings)) {
    for (const bytes of all) assert.deepEqual(await of(bytes, "x.txt", "text/plain"), [type, type.startsWith("video/"), true], type);
  }
  // Texts, sound, and files that end early say nothing.
  const unclear = ["", "\xff", "BMW and others are named here", "The free software", "<p><svg></svg>", `${"<!---->".repeat(500)}<p>`, "RIFF\x01\0\0\0WAVE"];
  for (const bytes of unclear) {
    assert.deepEqual(await of(bytes, "x.txt", "text/plain"), ["text/plain", false, false], bytes.slice(0, 20));
    assert.deepEqual(await of(bytes, "x.mp4", ""), ["", true, true], bytes.slice(0, 20));
    assert.deepEqual(await of(bytes, "x.png", "image/png"), ["image/png", false, true], bytes.slice(0, 20));
  }
  // One that was deleted after it was chosen.
  const gone = Object.assign(new File(["x"], "x.png", { type: "image/png" }), { slice: () => ({ arrayBuffer: () => Promise.reject(new Error("gone")) }) });
  assert.deepEqual((await recognise(gone)).isKnown, true);
});

test("file names are sensible", () => {
  const cases = { "IMG 1234.JPG": "IMG-1234", "scenes/two-cups.jpg": "two-cups", "..\\..\\x.png": "x", "": "picture", "Käse & Brot.webp": "Käse-Brot", ".jpg": "picture", "v1.2.png": "v1.2" };
  for (const [name, stem] of Object.entries(cases)) assert.equal(fileName(name, "-boxes.json"), `${stem}-boxes.json`, name);
  // Trainers look for a file of labels by the picture's name.
  const exact = { "IMG 1234 (2).JPG": "IMG 1234 (2)", "Käse & Brot.webp": "Käse & Brot", "a/b\\c d.png": "c d", "what?.png": "what-", ".jpg": "picture" };
  for (const [name, stem] of Object.entries(exact)) assert.equal(fileName(name, FORMATS.yolo.suffix, FORMATS.yolo), `${stem}.txt`, name);
  // 𠀀 is two units of UTF-16.
  assert.equal(fileName(`${"𠀀".repeat(90)}.png`, ""), "𠀀".repeat(80));
  assert.equal(momentName(new Date(2026, 0, 2, 3, 4, 5)), "camera-2026-01-02-030405");
});

test("the models of the page are those in models/, with their sizes and accuracies", async () => {
  const files = (await readdir(at("models"))).filter((file) => file.endsWith(".onnx"));
  assert.deepEqual(Object.values(FILES).sort(), files.sort());
  const accuracies = JSON.parse(await readFile(at("benches/accuracy.json"), "utf8"));
  const cards = await readFile(at("models/README.md"), "utf8");
  const [head, ...rows] = cards.match(/^\|.*\|$/gm).map((row) => row.split("|").map((cell) => cell.trim()));
  for (const { id, bytes, ap50, source } of MODELS) {
    assert.equal(bytes, (await stat(at(`models/${FILES[id]}`))).size, id);
    const row = rows.find((cells) => cells[1] === `\`${FILES[id]}\``);
    assert.equal(ap50, Number(row[head.indexOf("AP50")]), `${id}, in models/README.md`);
    // That file has the input size behind the name.
    const measured = FILES[id].replace(/(-int8)?\.onnx$/, "-416$1");
    assert.equal(ap50, accuracies.find(({ file }) => file === measured).coco, `${id}, in benches/accuracy.json`);
    if (source !== undefined) assert.equal(source, `./models/${FILES[id]}`);
  }
  // The one without an address is the one inside the package.
  const parts = await readFile(at("pkg/parts-small.js"), "utf8");
  assert.ok(parts.includes(FILES[MODELS.find(({ source }) => source === undefined).id]));
  assert.equal(modelOf(DEFAULTS.model), MODELS[0]);
  assert.ok(modelOf(DEFAULTS.model2));
});

test("each card has the checksums of its files, and the package's README the figures of models/README.md", async () => {
  const cards = await readFile(at("models/README.md"), "utf8");
  const sums = (await readFile(at("models/SHA256SUMS"), "utf8")).trim().split("\n").map((line) => line.split(/\s+/));
  for (const [sum, file] of sums.filter(([, file]) => file.endsWith(".onnx"))) {
    assert.ok(cards.includes(`\`${file}\`: \`${sum}\``), `${file}, in models/README.md`);
  }
  const cells = (text) => text.match(/^\|.*\|$/gm).map((row) => row.split("|").map((cell) => cell.trim()));
  const [head, ...rows] = cells(cards);
  const figures = (await readFile(at("pkg/README.md"), "utf8")).split("\n## Models\n")[1].split("\n## ")[0];
  for (const [, name, megabytes, , , coco, voc, ms] of cells(figures).slice(2)) {
    const file = `${/`(.*?)`/.exec(name)[1]}.onnx`;
    const row = rows.find((row) => row[1] === `\`${file}\``);
    const of = (column) => row[head.indexOf(column)];
    const [bytes] = of("bytes (gzip)").replaceAll(",", "").split(" ");
    const expected = [(Number(bytes) / 1e6).toFixed(2), of("AP50"), of("`voc07-val` mAP50"), of("ms here / onnxruntime-web").split(" / ")[0]];
    assert.deepEqual([megabytes, coco, voc, ms], expected, file);
  }
});

test("a model of the visitor's is found again", () => {
  const own = addOwn({ name: "mine.onnx", blob: new Blob([new Uint8Array(1_500_000)]) });
  assert.equal(modelOf(own.id), own);
  assert.equal(optionText(own), "mine.onnx (1.5 MB)");
  assert.equal(optionText({ ...own, bytes: 12_345 }), "mine.onnx (13 kB)");
  assert.equal(optionText(MODELS[0]), "Large, int8 (1.5 MB, AP50 43)");
  assert.equal(optionText({ id: "x", name: "x", source: "x" }), "x");
  assert.ok(allModels().includes(own));
  const url = "https://example.org/m.onnx";
  assert.equal(addOwn({ name: "m.onnx", blob: new Blob(), url }).id, url);
});

test("the script of the frame that fetches is the one that its policy allows", async () => {
  const html = await readFile(at("www/fetch.html"), "utf8");
  const [, script] = /<script>([^]*)<\/script>/.exec(html);
  const hash = createHash("sha256").update(script).digest("base64");
  assert.ok(html.includes(`script-src 'sha256-${hash}'`), `it must say sha256-${hash}`);
});

test("the frame that fetches leaves an answer that is too long, and one that is no longer wanted", async () => {
  const [, script] = /<script>([^]*)<\/script>/.exec(await readFile(at("www/fetch.html"), "utf8"));
  const ask = async (answer, stopAfter) => {
    let listen;
    let read = 0;
    let signal;
    const chunk = new Uint8Array(2 ** 20);
    // Bytes without end, of which the frame is to take none home.
    const body = {
      getReader: () => ({
        async read() {
          read += 1;
          if (read === stopAfter) port.onmessage();
          if (signal.aborted) throw signal.reason;
          return read > (answer.chunks ?? Infinity) ? { done: true } : { done: false, value: chunk };
        },
      }),
    };
    const port = {};
    const said = new Promise((resolve) => (port.postMessage = resolve));
    const parent = { postMessage() {} };
    const fetch = async (_, options) => {
      signal = options.signal;
      return { ok: true, headers: new Headers(answer.headers), body };
    };
    vm.runInNewContext(script, { parent, fetch, AbortController, Blob, addEventListener: (_, one) => (listen = one) });
    listen({ source: parent, data: "https://example.org/file", ports: [port] });
    return { ...(await said), read, aborted: signal.aborted };
  };
  const good = await ask({ chunks: 3, headers: { "content-type": "image/png" } });
  assert.deepEqual([good.bytes.byteLength, good.type, good.error], [3 * 2 ** 20, "image/png", undefined]);
  const long = await ask({ headers: { "content-length": String(2 ** 30 + 1) } });
  assert.match(long.error, /more than 1073741824 bytes/);
  assert.deepEqual([long.read, long.aborted], [0, true]);
  const endless = await ask({});
  assert.match(endless.error, /more than 1073741824 bytes/);
  assert.deepEqual([endless.read, endless.aborted], [1025, true]);
  const stopped = await ask({}, 5);
  assert.match(stopped.error, /Abort/);
  assert.equal(stopped.read, 5);
});

test("every sample, link and icon is there", async () => {
  assert.ok(SAMPLES.length >= 8 && SAMPLES.length <= 12, String(SAMPLES.length));
  for (const { id, file } of SAMPLES) {
    assert.match(id, /^[a-z0-9-]+$/);
    assert.ok((await stat(at(`data/samples/${file}`))).size < 200_000, file);
    // All of these come before the first result.
    assert.ok((await stat(at(`data/samples/scenes/thumbs/${id}.jpg`))).size < 12_000, id);
  }
  const html = await readFile(at("www/index.html"), "utf8");
  const folders = { docs: "docs", models: "models", pkg: "pkg" };
  for (const [, path] of html.matchAll(/(?:href|src|content)="\.\/([^"]+)"/g)) {
    const [first] = path.split("/");
    await stat(at(folders[first] ? path : `www/${path}`));
  }
  const { icons } = JSON.parse(await readFile(at("www/manifest.webmanifest"), "utf8"));
  for (const { src, sizes, type } of icons) {
    const bytes = await readFile(at(`www/${src}`));
    if (type === "image/png") assert.equal(`${bytes.readUInt32BE(16)}x${bytes.readUInt32BE(20)}`, sizes, src);
  }
  const links = JSON.parse(await readFile(at("www/links.json"), "utf8"));
  assert.deepEqual(Object.keys(links), ["site", "source", "npm"]);
  for (const link of Object.values(links)) assert.match(link, /^(https:\/\/.+)?$/);
});
