// Figures that are written by hand are those that were measured: sizes of the package, and the prose of the page.
import assert from "node:assert/strict";
import { readFile, stat } from "node:fs/promises";
import { test } from "node:test";
import { FILES, MODELS } from "../../www/models.js";
import { DEFAULTS, valid } from "../../www/settings.js";

const read = (path) => readFile(new URL(`../../${path}`, import.meta.url), "utf8");
const budget = JSON.parse(await read("xtask/size-budget.json"));
const together = budget.javascript + budget.engine + budget.model;

test("sizes in documents are those that `cargo xtask size --accept` recorded", async () => {
  /** In each document, every figure of these words, and what it is in bytes. */
  const said = [
    ["pkg/README.md", /\| `micro-yolo` +\|.*?\| ([\d.]+) (MB)/, together],
    ["pkg/README.md", /\| `micro-yolo` +\|.*?full engine, ([\d.]+) (MB)/, budget.full_engine],
    ["pkg/README.md", /\| `micro-yolo\/small` +\|.*?\| ([\d.]+) (MB)/, together],
    ["pkg/README.md", /\| `micro-yolo\/inline` +\|.*?one module of ([\d.]+) (MB)/, budget.inline_raw],
    ["pkg/README.md", /\| `micro-yolo\/inline` +\|.*?\| ([\d.]+) (MB)/, budget.inline],
    ["pkg/README.md", /\| `micro-yolo\/inline` +\|.*\| ([\d.]+) (MB) +\|/, budget.inline_raw],
    ["pkg/README.md", /downloads ([\d.]+) (MB) of engine/, budget.engine],
    ["pkg/README.md", /and ([\d.]+) (kB) of JavaScript/, budget.javascript],
    ["README.md", /fetches ([\d.]+) (MB) after gzip/, together],
    ["README.md", /full engine as well, ([\d.]+) (MB)/, budget.full_engine],
    ["docs/performance.md", /downloads ([\d.]+) (MB) after gzip/, together],
    ["docs/engine.md", /has ([\d.]+) (MB) after gzip/, budget.full_engine],
    ["docs/comparison.md", /small: ([\d.]+) (MB) after gzip/, together],
  ];
  for (const [file, words, bytes] of said) {
    const [, figure, unit] = words.exec(await read(file)) ?? assert.fail(`${file} does not say ${words}`);
    const decimals = figure.split(".")[1]?.length ?? 0;
    assert.equal(figure, (bytes / { MB: 1e6, kB: 1e3 }[unit]).toFixed(decimals), `${file}: ${words}`);
  }
});

test("the full engine is as many times as large as the plain one as the types and the crate say", async () => {
  const bytes = async (name) => (await stat(new URL(`../../pkg/wasm/${name}_bg.wasm`, import.meta.url))).size;
  const ratio = Math.round((await bytes("micro_yolo_full")) / (await bytes("micro_yolo")));
  const parts = { 8: "an eighth", 9: "a ninth", 10: "a tenth", 11: "an eleventh", 12: "a twelfth", 13: "a thirteenth" };
  const packed = Math.round(budget.full_engine / budget.engine);
  assert.ok((await read("pkg/index.d.ts")).includes(`micro_yolo_full_bg.wasm\` (${ratio} times the size)`), `${ratio} times`);
  const crate = (await read("src/lib.rs")).replace(/\n\/\/! +/g, " ");
  assert.ok(crate.includes(`is ${parts[ratio]} of the size (${parts[packed]} after gzip)`), `${parts[ratio]}, ${parts[packed]}`);
});

test("figures in the prose of the page are those of cards, models and settings", async () => {
  const html = await read("www/index.html");
  const body = html.slice(html.indexOf("<body>")).replace(/<!--.*?-->|<svg.*?<\/svg>/gs, "");
  const prose = body.replace(/<[^>]+>/g, " ").replace(/\s+/g, " ");
  const cards = (await read("models/README.md")).match(/^\|.*\|$/gm).map((row) => row.split("|").map((cell) => cell.trim()));
  const parametersOf = (file) => parseFloat(cards.find((row) => row[1].includes(file))[cards[0].indexOf("parameters")]);
  const parameters = parametersOf("YOLOv3-tiny, for");
  const [, classes] = /COCO's (\d+) classes/.exec(await read("models/README.md"));
  // A convolution of 3 × 3 from 128 to 256 channels, and the same split, as docs/compression.md counts them.
  const [, full, split] = /has ([\d,]+) parameters\. .* and DSConv ([\d,]+)/s.exec(await read("docs/compression.md")).map((text) => Number(text.replaceAll(",", "")));
  const ordinals = { 4: "a quarter", 8: "an eighth", 9: "a ninth", 10: "a tenth" };
  const [, memory] = /const MEMORY = ([\d.]+);/.exec(await read("www/steady.js"));

  const [, chrome, firefox, safari] = /Chrome (\d+), Firefox (\d+), Safari ([\d.]+\d)/.exec(await read("README.md"));

  /** Sentences with a figure, in the order in which they stand there. */
  const expected = [
    `${DEFAULTS.score} %`,
    `${DEFAULTS.iou} %`,
    `It knows ${classes} kinds of things`,
    `averages of about ${ordinals[1 / Number(memory)]} of a second`,
    `fit into ${(MODELS[0].bytes / 1e6).toFixed(1)} MB`,
    `YOLOv3-tiny, a detector of 2018 for small machines, has ${parameters.toFixed(1)} million parameters: ${Math.round(parameters * 4)} MB in 32-bit floats`,
    `large model, micro-yolo, has ${parametersOf(`\`${FILES["large-int8"]}\``).toFixed(1)} million`,
    `a full 3 × 3 convolution is split into a depthwise and a pointwise one, which needs about ${ordinals[Math.round(full / split)]} of the parameters`,
    `become 8-bit integers, ${ordinals[32 / 8]} of the bytes`,
    `Needs Chrome ${chrome}, Firefox ${firefox}, Safari ${safari} or newer`,
  ];
  let from = 0;
  for (const text of expected) {
    const at = prose.replace(/ ([.?])/g, "$1").indexOf(text, from);
    assert.ok(at >= from, `www/index.html does not say "${text}"`);
    from = at + text.length;
  }
  // Nor is there any other figure, beside the names of formats, licences and measures.
  const digits = (text) => text.match(/\d[\d.]*\d|\d/g) ?? [];
  const names = /\b(?:CC0|AP50|Apache-2\.0)\b/g;
  assert.deepEqual(digits(prose.replace(names, "")), expected.flatMap(digits), "a figure that this test does not know");
});

test("each chart that the page shows names the models that the page runs, or no network", async () => {
  const html = await read("www/index.html");
  const charts = [...html.matchAll(/<img src="\.\/(docs\/[^"]+\.svg)"/g)].map(([, path]) => path);
  assert.ok(charts.length > 0);
  for (const path of charts) {
    const texts = [...(await read(path)).matchAll(/<text[^>]*>([^<]*)</g)].map(([, text]) => text.trim());
    const kinds = ["Conv", "DSConv", "MBConv", "Ghost"];
    const models = new Set(Object.values(FILES).map((file) => file.replace(/(-int8)?\.onnx$/, "")));
    const expected = kinds.some((kind) => texts.includes(kind)) ? kinds : [...models];
    assert.deepEqual(expected.filter((name) => !texts.includes(name)), [], path);
  }
});

/** The rows of a document's first table that has these columns: for each, its cells by the names of the columns. */
async function rowsOf(file, columns) {
  const text = await read(file);
  for (const [table] of text.matchAll(/(?:^\|.*\|\n)+/gm)) {
    const [heads, , ...rows] = table.trim().split("\n").map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
    if (columns.every((column) => heads.includes(column))) {
      return rows.map((cells) => ({ what: cells[0], ...Object.fromEntries(columns.map((column) => [column, cells[heads.indexOf(column)]])) }));
    }
  }
  return assert.fail(`${file} has no table with ${columns.join(", ")}`);
}

test("accuracy and time of the models are the same in all documents", async () => {
  const accuracies = JSON.parse(await read("benches/accuracy.json"));
  const timed = await rowsOf("docs/performance.md", ["network", "px", "**ours, float**", "**int8**"]);
  /** What is known of a model by its file's name, without the ending. */
  const known = (file) => {
    const isInt8 = file.endsWith("-int8");
    const { coco, voc } = accuracies.find((one) => one.file === `${isInt8 ? file.slice(0, -5) : file}-416${isInt8 ? "-int8" : ""}`);
    const row = timed.find(({ network, px }) => network === file.replace(/-int8$/, "") && px === "416");
    return { coco, voc, ms: parseFloat(row[isInt8 ? "**int8**" : "**ours, float**"]) };
  };
  const files = ["micro-yolo-int8", "micro-yolo", "micro-yolo-s-int8", "micro-yolo-s"];
  const others = { "_YOLOv3-tiny": "yolov3-tiny", _NanoDet: "nanodet-plus-m", _YOLOX: "yolox-nano" };
  /** A document, the columns of its table, and how the first cell of a row begins for each file. */
  const tables = [
    ["README.md", { coco: "`coco-val` AP50", voc: "`voc07-val` mAP50", ms: "ms per frame" }, (file) => `\`${file}\``],
    ["pkg/README.md", { coco: "COCO AP50", voc: "VOC mAP50", ms: "ms per frame" }, (file) => `\`${file}\``],
    ["models/README.md", { coco: "AP50", voc: "`voc07-val` mAP50", ms: "ms here / onnxruntime-web" }, (file) => `\`${file}.onnx\``],
  ];
  for (const [document, columns, cell] of tables) {
    const rows = await rowsOf(document, Object.values(columns));
    const starts = Object.fromEntries(files.map((file) => [cell(file), file]));
    if (document !== "pkg/README.md") Object.assign(starts, others);
    let seen = 0;
    for (const row of rows) {
      const [, file] = Object.entries(starts).find(([start]) => row.what.startsWith(start)) ?? [];
      if (!file) continue;
      seen += 1;
      const said = Object.fromEntries(Object.entries(columns).map(([what, column]) => [what, parseFloat(row[column])]));
      assert.deepEqual(said, known(file), `${document}: ${row.what}`);
    }
    assert.ok(seen >= files.length, `${document}: ${seen} rows`);
  }
  const { ms, coco } = known("micro-yolo-int8");
  const tiny = known("yolov3-tiny");
  const lead = (await read("README.md")).replace(/\s+/g, " ");
  assert.ok(lead.includes(`AP50 on \`coco-val\` is ${coco}, against ${tiny.coco} for YOLOv3-tiny`));
  assert.ok(lead.includes(`a frame takes ${ms} ms instead of ${tiny.ms} ms`));
});

test("the sliders of the page begin at the defaults, and end where settings do", async () => {
  const html = await read("www/index.html");
  for (const name of ["score", "iou"]) {
    const [slider] = new RegExp(`<input type="range" id="${name}"[^>]*>`).exec(html);
    const number = (attribute) => Number(new RegExp(` ${attribute}="(\\d+)"`).exec(slider)[1]);
    assert.equal(number("value"), DEFAULTS[name], name);
    for (const [end, beyond] of [["min", number("min") - 1], ["max", number("max") + 1]]) {
      assert.deepEqual([valid({ [name]: number(end) }), valid({ [name]: beyond })], [{ [name]: number(end) }, {}], `${name}, ${end}`);
    }
  }
});
