// The example in Rust alone, as the part `wasm-pack` of `cargo xtask test` builds it: it finds the cat, and draws a box.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { launchChromium } from "./lib/browsers.mjs";
import { ROOT, TARGET, serve } from "./lib/server.mjs";

const BUILT = join(TARGET, "example-rust");
const missing = !existsSync(join(BUILT, "micro_yolo_example.js")) && "`cargo xtask test --only wasm-pack` builds it";

test("rust", { skip: missing }, async (t) => {
  const site = await serve({ mounts: { "/": "examples/rust", "/pkg/": BUILT } });
  site.route("/cat.jpg", async (_, response) => response.end(await readFile(join(ROOT, "data/samples/cat.jpg"))));
  t.after(() => site.close());
  const browser = await launchChromium();
  t.after(() => browser.close());
  const page = await browser.newPage();
  await page.goto(site.url);
  await page.waitForFunction(() => document.querySelector("pre").textContent, { timeout: 60_000 });
  assert.match(await page.$eval("pre", (one) => one.textContent), /^cat \d+ % at \d+, \d+\n/);
  const seen = await page.evaluate(() => {
    const canvas = document.querySelector("canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let red = 0;
    for (let at = 0; at < data.length; at += 4) red += Number(data[at] === 255 && data[at + 1] === 0 && data[at + 2] === 0);
    return { width: canvas.width, height: canvas.height, red };
  });
  assert.deepEqual([seen.width, seen.height], [451, 300]);
  assert.ok(seen.red > 500, `${seen.red} red pixels`);
});
