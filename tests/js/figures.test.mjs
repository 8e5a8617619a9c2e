// Figures that are written by hand are those that were measured: sizes of the package, and the prose of the page.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { MODELS } from "../../www/models.js";
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

test("figures in the prose of the page are those of cards, models and settings", async () => {
  const html = await read("www/index.html");
  const body = html.slice(html.indexOf("<body>")).replace(/<!--.*?-->|<svg.*?<\/svg>/gs, "");
  const prose = body.replace(/<[^>]+>/g, " ").replace(/\s+/g, " ");
  const cards = (await read("models/README.md")).match(/^\|.*\|$/gm).map((row) => row.split("|").map((cell) => cell.trim()));
  const parameters = parseFloat(cards.find((row) => row[1].includes("YOLOv3-tiny, for"))[cards[0].indexOf("parameters")]);
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
