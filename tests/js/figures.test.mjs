// Figures that are written by hand are those that were measured: sizes of the package.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

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
