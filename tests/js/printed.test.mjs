// What documents print and show is so.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { overlap } from "../../www/results.js";
import { found, printed } from "../../scripts/printed.mjs";

const at = (path) => new URL(`../../${path}`, import.meta.url);
const REMEDY = "`node scripts/printed.mjs` writes it anew";

/** The cat in data/samples/cat.jpg, by hand. */
const CAT = { x: 0, y: 0, width: 415, height: 300 };

test("the package's model finds the cat, and documents print what it finds", async () => {
  const [{ label, box, classId, score }] = await found();
  assert.equal(label, "cat");
  assert.ok(overlap(box, CAT) >= 0.8, JSON.stringify(box));
  const results = await printed();
  for (const file of ["pkg/README.md", "pkg/index.d.ts"]) assert.ok(results.some((one) => one.file === file), file);
  for (const one of results) {
    assert.deepEqual([one.label, one.classId], ["cat", classId], one.file);
    assert.ok(overlap(one.box, box) >= 0.8 && Math.abs(one.score - score) < 0.15, `${one.file} prints another result: ${REMEDY}`);
  }
});

test("the code of docs/migrate.md is that which is compiled", async () => {
  const document = await readFile(at("docs/migrate.md"), "utf8");
  const compiled = await readFile(at("tests/types/migrate.ts"), "utf8");
  const blocks = [...document.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code]) => code);
  assert.equal(blocks.length, 4);
  for (const code of blocks) {
    const lines = code.trimEnd().split("\n");
    // Imports stand once at the top of the file, the rest in functions.
    const body = lines.filter((line) => !line.startsWith("import ") && line !== "");
    const text = body.map((line) => `  ${line}\n`).join("");
    assert.ok(compiled.includes(text), `not in tests/types/migrate.ts:\n${text}`);
  }
});
