// The page in Firefox.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";
import { launchFirefox } from "./lib/browsers.mjs";
import { ROOT, serve } from "./lib/server.mjs";
import { CAT, SHOTS, pasteRecording, playsAgain, savedPng, seesCat } from "./lib/visitor.mjs";
import { SAMPLES } from "../../www/samples.js";

let site, temporary;
before(async () => {
  site = await serve();
  temporary = await mkdtemp(join(tmpdir(), "micro-yolo-"));
  await mkdir(SHOTS, { recursive: true });
});
after(async () => {
  await site?.close();
  await rm(temporary, { recursive: true, force: true });
});

describe("page in firefox", () => {
  let browser;
  before(async () => {
    browser = await launchFirefox({
      "media.navigator.streams.fake": true,
      "media.navigator.permission.disabled": true,
    });
  });
  after(async () => await browser?.close());

  const until = (page, work, ...values) => page.waitForFunction(work, { timeout: 60_000 }, ...values);

  test("samples, a file and the threshold", async () => {
    const page = await browser.newPage();
    await page.setViewport({ width: 1200, height: 860 });
    await page.goto(`${site.url}#sample=cat`);
    await seesCat(page);
    await page.screenshot({ path: join(SHOTS, "firefox.png") });
    const input = await page.$("#file");
    await input.uploadFile(join(ROOT, "data/samples/coffee.jpg"));
    await until(page, () => document.querySelector("#picture").alt === "coffee.jpg");
    await until(page, () => !/^Looking/.test(document.querySelector("#summary").textContent));
    await input.uploadFile(CAT);
    await seesCat(page);
    await page.close();
  });

  test("a film, tracked and then compared", async () => {
    const page = await browser.newPage();
    await page.setViewport({ width: 1200, height: 860 });
    await page.goto(`${site.url}#sample=tour&track=1`);
    await until(page, () => [...document.querySelectorAll("#list .label")].some((one) => /^cat #\d+$/.test(one.textContent)));
    await page.click("#compare");
    await until(page, () => [...document.querySelectorAll("#list-b .label")].some((one) => one.textContent === "cat"));
    await until(page, () => Number(document.querySelector("#rate-b").textContent) > 0);
    await page.screenshot({ path: join(SHOTS, "firefox-compared.png") });
    assert.ok(await page.evaluate(() => document.querySelector("#problem").hidden));
    await page.close();
  });

  test("films in WebM play over and over, from a file and from a recorder", async () => {
    const page = await browser.newPage();
    await page.goto(`${site.url}#sample=astronaut&track=1`);
    await (await page.$("#file")).uploadFile(join(ROOT, "tests/e2e/fixtures/cat.webm"));
    await playsAgain(page);
    await pasteRecording(page);
    await playsAgain(page);
    await page.close();
  });

  test("with no more than Firefox 102 has, everything is looked at by the page itself, and saved", async () => {
    const old = await launchFirefox({ "media.rvfc.enabled": false, "javascript.options.wasm_relaxed_simd": false });
    try {
      const page = await old.newPage();
      await page.evaluateOnNewDocument(() => {
        for (const name of ["OffscreenCanvas", "OffscreenCanvasRenderingContext2D", "VideoFrame", "ClipboardItem"]) delete globalThis[name];
        delete CanvasRenderingContext2D.prototype.roundRect;
        for (const name of ["findLast", "findLastIndex", "toSorted", "toReversed", "toSpliced", "with"]) delete Array.prototype[name];
        // Workers of modules came with 114: before, such a script was a classic one, and its `import` an error.
        const Native = Worker;
        globalThis.Worker = class extends Native {
          constructor(address) {
            super(address);
          }
        };
      });
      await page.goto(`${site.url}#sample=cat&track=1`);
      await seesCat(page);
      assert.ok(await page.evaluate(() => typeof OffscreenCanvas === "undefined" && !("requestVideoFrameCallback" in document.querySelector("video"))));
      assert.deepEqual(await savedPng(page), ["PNG", 451, 300]);
      await (await page.$("#file")).uploadFile(join(ROOT, "tests/e2e/fixtures/cat.webm"));
      await playsAgain(page);
      await page.click("#compare");
      await until(page, () => [...document.querySelectorAll("#list-b .label")].some((one) => one.textContent === "cat"));
      assert.ok(await page.evaluate(() => document.querySelector("#problem").hidden));
      assert.ok(await page.evaluate(async () => {
        const { Detector } = await import("./pkg/index.js");
        const detector = await Detector.load();
        return detector.worker === false && detector.build === "simd128";
      }));
    } finally {
      await old.close();
    }
  });

  test("an address of another site", async () => {
    const open = await serve({ headers: { "access-control-allow-origin": "*" } });
    const page = await browser.newPage();
    try {
      await page.goto(`${site.url}#url=${encodeURIComponent(`${open.url}samples/cat.jpg`)}`);
      await until(page, () => document.querySelector("#picture").alt === "cat.jpg");
      await seesCat(page);
    } finally {
      await page.close();
      await open.close();
    }
  });

  test("the camera runs and stops", async () => {
    const page = await browser.newPage();
    await page.goto(site.url);
    await page.click("#camera");
    await until(page, () => Number(document.querySelector("#rate").textContent) > 0);
    await page.click("#camera");
    await until(page, () => document.querySelector("#stage").dataset.showing === "nothing");
    assert.ok(await page.evaluate(() => document.querySelector("#problem").hidden));
    await page.close();
  });

  test("a denied camera and a broken file are explained", async () => {
    const strict = await launchFirefox({ "media.navigator.streams.fake": true, "permissions.default.camera": 2 });
    try {
      const page = await strict.newPage();
      await page.goto(site.url);
      await until(page, () => document.querySelector("#picture").alt);
      await page.click("#camera");
      await until(page, () => /not allowed/.test(document.querySelector("#problem-text").textContent));
      const input = await page.$("#file");
      await writeFile(join(temporary, "broken.png"), "no picture");
      await input.uploadFile(join(temporary, "broken.png"));
      await until(page, () => /not a picture or video/.test(document.querySelector("#problem-text").textContent));
      // What was shown stays.
      assert.equal(await page.evaluate(() => document.querySelector("#picture").alt), SAMPLES[0].name);
      // Half a video: its index is at its beginning.
      for (const name of ["tour.mp4", "cat.webm"]) {
        const whole = await readFile(join(ROOT, name === "cat.webm" ? "tests/e2e/fixtures" : "data/samples/scenes", name));
        await writeFile(join(temporary, `half-${name}`), whole.subarray(0, whole.length / 2));
        await input.uploadFile(join(temporary, `half-${name}`));
        await until(page, (name) => document.querySelector("#problem-text").textContent.startsWith(`half-${name}: The video breaks off`), name);
        await until(page, () => document.querySelector("#summary").textContent !== "Looking …");
      }
      // Two models share the frames that the page takes itself: of this one there are none.
      await page.click("#compare");
      await input.uploadFile(CAT);
      await seesCat(page);
      await input.uploadFile(join(temporary, "half-cat.webm"));
      await until(page, () => document.querySelector("#problem-text").textContent.startsWith("half-cat.webm: The video breaks off"));
    } finally {
      await strict.close();
    }
  });
});
