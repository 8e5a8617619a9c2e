// The page in an old browser.
import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";
import { launchOldChromium } from "./lib/browsers.mjs";
import { ROOT, serve } from "./lib/server.mjs";
import { CAT, SHOTS, painted, savedPng } from "./lib/visitor.mjs";

const FAKE_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];

/** Declarations of the style sheet that an old browser may leave out. */
const DECORATION = ["line-clamp", "print-color-adjust", "scrollbar-width", "text-size-adjust", "text-wrap"];

describe("page in Chromium 103", () => {
  let browser, close, site;
  before(async () => {
    site = await serve();
    ({ browser, close } = await launchOldChromium(FAKE_CAMERA));
    await mkdir(SHOTS, { recursive: true });
  });
  after(async () => {
    await close?.();
    await site?.close();
  });

  /** A new visitor; whatever its console says is wrong. */
  async function visit(t, path = "") {
    const page = await browser.newPage();
    await page.setViewport({ width: 1200, height: 860 });
    const errors = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    t.after(async () => {
      await page.close();
      assert.deepEqual(errors, []);
    });
    // Of Firefox 102 this alone is taken from it: that has no OffscreenCanvas.
    await page.evaluateOnNewDocument(() => delete globalThis.OffscreenCanvas);
    await page.goto(site.url + path);
    return page;
  }
  const until = (page, work, ...values) => page.waitForFunction(work, { timeout: 60_000 }, ...values);
  // Without checkVisibility().
  const seesCat = (page, list = "#list") =>
    until(page, (list) => [...document.querySelectorAll(`${list} .label`)].some((one) => /^cat( #\d+)?$/.test(one.textContent)), list);

  test("a picture is looked at, shown as large as elsewhere, and saved with its boxes", async (t) => {
    const page = await visit(t, "#sample=cat");
    assert.match(await browser.version(), /Chrome\/103\./);
    await seesCat(page);
    assert.ok((await painted(page)) > 500);
    assert.ok(await page.$eval("#problem", (one) => one.hidden));
    // 58 % of the window's height, as the style sheet says, and as wide as the cat is by that: 451 x 300 px.
    const { width, height } = await page.$eval("#stage", (one) => one.getBoundingClientRect().toJSON());
    assert.ok(Math.abs(height - 0.58 * 860) < 1 && Math.abs(width - (height * 451) / 300) < 2, `${width} x ${height}`);
    await page.screenshot({ path: join(SHOTS, "old.png") });
    assert.deepEqual(await savedPng(page), ["PNG", 451, 300]);
  });

  test("a chosen picture, a film and the camera, by one model and by two", async (t) => {
    const page = await visit(t, "#sample=astronaut&track=1");
    const choose = async (path) => (await page.$("#file")).uploadFile(path);
    await choose(CAT);
    await until(page, () => document.querySelector("#picture").alt === "cat.jpg");
    await seesCat(page);
    await choose(join(ROOT, "tests/e2e/fixtures/cat.webm"));
    await until(page, () => [...document.querySelectorAll("#list .label")].some((one) => /^cat #\d+$/.test(one.textContent)));
    await page.click("#compare");
    await seesCat(page, "#list-b");
    await until(page, () => Number(document.querySelector("#rate-b").textContent) > 0);
    await page.screenshot({ path: join(SHOTS, "old-compared.png") });
    await page.click("#compare");
    await page.click("#camera");
    await until(page, () => document.querySelector("#stage").dataset.showing === "camera" && Number(document.querySelector("#rate").textContent) > 0);
    await page.click("#camera");
    await until(page, () => document.querySelector("#stage").dataset.showing === "nothing");
    assert.ok(await page.$eval("#problem", (one) => one.hidden));
  });

  test("it knows every selector of the style sheet, and every declaration but decoration", async (t) => {
    const page = await visit(t);
    const css = (await readFile(join(ROOT, "www/style.css"), "utf8")).replace(/\/\*.*?\*\//gs, "").replace(/@supports[^{]*\{(?:[^{}]*\{[^{}]*\})*\s*\}/g, "");
    const variables = new Map([...css.matchAll(/(--[\w-]+):\s*([^;]+);/g)].map(([, name, value]) => [name, value]));
    const plain = (value) => (/var\(/.test(value) ? plain(value.replace(/var\((--[\w-]+)\)/g, (_, name) => variables.get(name) ?? "1")) : value);
    const declarations = [...css.matchAll(/(?<=[{;]\s*)(-?[a-z][\w-]*):\s*([^;{}]+);/g)].map(([, name, value]) => [name, plain(value).replace(" !important", "")]);
    const selectors = [...css.matchAll(/(?<=[{}]\s*)([^{}@;]+)\{/g)].map(([, selector]) => selector.trim());
    assert.ok(declarations.length > 400 && selectors.length > 120, `${declarations.length}, ${selectors.length}`);
    const unknown = await page.evaluate(
      (declarations, selectors) => ({
        declarations: declarations.filter(([name, value]) => !CSS.supports(name, value)).map(([name, value]) => `${name}: ${value}`),
        selectors: selectors.filter((selector) => !selector.split(/,(?![^(]*\))/).every((one) => CSS.supports(`selector(${one})`))),
      }),
      declarations,
      selectors,
    );
    assert.deepEqual(unknown.selectors, []);
    assert.deepEqual(unknown.declarations.filter((one) => !DECORATION.includes(one.split(":")[0])), []);
  });
});
