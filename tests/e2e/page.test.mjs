// The page, as a visitor meets it, in Chromium and Firefox.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";
import { createRequire } from "node:module";
import { launchChromium, launchFirefox } from "./lib/browsers.mjs";
import { ROOT, serve } from "./lib/server.mjs";
import { writeClip } from "./lib/clip.mjs";
import { SAMPLES } from "../../www/samples.js";

/** Screenshots for people to look at. */
const SHOTS = join(ROOT, "target/e2e");

const FAKE_CAMERA = ["--use-fake-device-for-media-stream"];
const CAT = join(ROOT, "data/samples/cat.jpg");

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

describe("page in chromium", () => {
  let browser;
  before(async () => {
    browser = await launchChromium(FAKE_CAMERA);
  });
  after(async () => await browser?.close());

  /** A fresh visitor. Fails the test on any error in the console that is not expected. */
  async function visit(t, { expectErrors = false, path = "", ...options } = {}) {
    const context = await browser.newContext({ viewport: { width: 1200, height: 860 }, ...options });
    const page = await context.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    t.after(async () => {
      await context.close();
      if (!expectErrors) assert.deepEqual(errors, []);
    });
    await page.goto(site.url + path);
    return page;
  }

  const labels = (page, list = "#list") => page.locator(`${list} .label`).allTextContents();
  const sees = (page, label, list = "#list") =>
    page.locator(`${list} .label`, { hasText: new RegExp(`^${label}( #\\d+)?$`) }).first().waitFor({ timeout: 60_000 });
  const seesCat = (page) => sees(page, "cat");
  /** Once the picture of this name is shown and looked at. */
  const looked = (page, name) =>
    page.waitForFunction(
      (name) => document.querySelector("#picture").alt === name && document.querySelector("#time").textContent !== "–",
      name,
      { timeout: 60_000 },
    );
  const problem = async (page) => {
    await page.locator("#problem").waitFor({ timeout: 60_000 });
    return page.locator("#problem-text").textContent();
  };
  const CAT_PAGE = { path: "#sample=cat" };

  /** How many pixels of the overlay are painted. */
  const painted = (page) =>
    page.evaluate(() => {
      const canvas = document.querySelector("#boxes");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((value, index) => index % 4 === 3 && value > 0).length;
    });

  /** How many pixels of a screenshot have the colour of boxes that most have. */
  const pixelsOfBoxes = (page, png) =>
    page.evaluate(
      async ({ base64 }) => {
        const { PALETTE } = await import("./colors.js");
        const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
        const shot = await createImageBitmap(new Blob([bytes]));
        const context = new OffscreenCanvas(shot.width, shot.height).getContext("2d");
        const colors = PALETTE.map((hex) => [1, 3, 5].map((start) => Number.parseInt(hex.slice(start, start + 2), 16)));
        context.drawImage(shot, 0, 0);
        const { data } = context.getImageData(0, 0, shot.width, shot.height);
        const counts = colors.map(([r, g, b]) => {
          let count = 0;
          for (let at = 0; at < data.length; at += 4) count += data[at] === r && data[at + 1] === g && data[at + 2] === b;
          return count;
        });
        return Math.max(...counts);
      },
      { base64: png.toString("base64") },
    );

  test("a sample runs on arrival, and each shows what it promises", async (t) => {
    const page = await visit(t);
    await looked(page, SAMPLES[0].name);
    assert.ok((await painted(page)) > 500);
    assert.match(await page.locator("#time").textContent(), /^\d+(\.\d)? ms$/);
    assert.match(await page.locator("#build").textContent(), /^\d+ × \d+ px, (relaxed )?SIMD, 1 thread$/);
    await page.screenshot({ path: join(SHOTS, "arrival-light.png") });
    for (const { name, shows, also = [], file } of SAMPLES) {
      await page.getByRole("button", { name, exact: true }).click();
      assert.equal(await page.locator("#samples-list [aria-current]").textContent(), file.endsWith(".mp4") ? `▶${name}` : name);
      if (file.endsWith(".mp4")) {
        for (const label of shows) await sees(page, label);
        continue;
      }
      await looked(page, name);
      const found = new Set(await labels(page));
      for (const label of shows) assert.ok(found.has(label), `${name}: ${label} is not among ${[...found]}`);
      for (const label of found) assert.ok(shows.includes(label) || also.includes(label), `${name}: ${label} is wrong`);
    }
    assert.ok(await page.locator("#problem").isHidden());
  });

  test("a file is chosen, several make a strip, and a broken one no broken picture", async (t) => {
    const page = await visit(t, { expectErrors: true });
    await page.locator("#file").setInputFiles(CAT);
    await looked(page, "cat.jpg");
    assert.ok(await page.locator("#mine").isHidden());
    const jpeg = async (name) => ({ name, mimeType: "image/jpeg", buffer: await readFile(join(ROOT, "data/samples", name)) });
    const coffee = await jpeg("coffee.jpg");
    await page.locator("#file").setInputFiles([await jpeg("cat.jpg"), coffee, { name: "broken.png", mimeType: "image/png", buffer: Buffer.from("x") }]);
    await looked(page, "cat.jpg");
    const names = () => page.locator("#mine .name").allTextContents();
    assert.deepEqual(await names(), ["cat.jpg", "coffee.jpg", "broken.png"]);
    await page.locator("#mine .placeholder").waitFor();
    await page.locator("#mine").getByRole("button", { name: "coffee.jpg" }).click();
    await looked(page, "coffee.jpg");
    assert.equal(await page.locator("#mine [aria-current] .name").textContent(), "coffee.jpg");
    await page.screenshot({ path: join(SHOTS, "several.png") });
    // By keyboard to the next one.
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Enter");
    assert.match(await problem(page), /not a picture or video/);
    assert.ok(await page.locator("#picture").isHidden());
    assert.equal(await page.locator("#picture").getAttribute("src"), null);
    await page.screenshot({ path: join(SHOTS, "broken.png") });
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Enter");
    await looked(page, "cat.jpg");
    assert.ok(await page.locator("#problem").isHidden());
    // Of a drop, the pictures; the rest stays in the strip.
    await page.locator("#file").setInputFiles([{ name: "text.txt", mimeType: "text/plain", buffer: Buffer.from("x") }, coffee]);
    await looked(page, "coffee.jpg");
  });

  test("a file is dropped", async (t) => {
    const page = await visit(t);
    const files = await page.evaluateHandle(async () => {
      const transfer = new DataTransfer();
      const blob = await (await fetch("./samples/cat.jpg")).blob();
      transfer.items.add(new File([blob], "dropped.jpg", { type: "image/jpeg" }));
      return transfer;
    });
    await page.dispatchEvent("#stage", "dragenter", { dataTransfer: files });
    assert.ok(await page.locator("#stage.dropping .drop-hint").isVisible());
    await page.screenshot({ path: join(SHOTS, "dropping.png") });
    await page.dispatchEvent("#stage", "drop", { dataTransfer: files });
    assert.ok(await page.locator(".drop-hint").isHidden());
    await looked(page, "dropped.jpg");
  });

  /** Pastes a text, or a file made of a sample. */
  const paste = (page, { text, file }, target = "body") =>
    page.evaluate(
      async ({ text, file, target }) => {
        const clipboardData = new DataTransfer();
        if (text) clipboardData.setData("text/plain", text);
        if (file) clipboardData.items.add(new File([await (await fetch("./samples/cat.jpg")).blob()], file, { type: "image/jpeg" }));
        document.querySelector(target).dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
      },
      { text, file, target },
    );

  test("a picture is pasted, or its address", async (t) => {
    const page = await visit(t);
    await paste(page, { file: "pasted.jpg" });
    await looked(page, "pasted.jpg");
    await paste(page, { text: `${site.url}samples/coffee.jpg` });
    await looked(page, "coffee.jpg");
    // Into the field it is a text for the field.
    await paste(page, { text: `${site.url}samples/cat.jpg` }, "#address");
    await paste(page, { text: "hello" });
    assert.match(await problem(page), /no address/);
    assert.equal(await page.locator("#picture").getAttribute("alt"), "coffee.jpg");
  });

  test("an address of another site is fetched where that site allows it, and only then", async (t) => {
    const page = await visit(t, { expectErrors: true });
    const open = await serve({ headers: { "access-control-allow-origin": "*" } });
    const closed = await serve();
    t.after(() => Promise.all([open.close(), closed.close()]));
    const address = page.getByLabel("Address of a picture");
    const enter = async (url) => {
      await address.fill(url);
      await page.getByRole("button", { name: "Open", exact: true }).click();
    };
    await enter(`${open.url}samples/cat.jpg`);
    await looked(page, "cat.jpg");
    assert.deepEqual(open.requests, ["/samples/cat.jpg"]);
    for (const url of [`${closed.url}samples/cat.jpg`, `${open.url}missing.jpg`, "http://127.0.0.1:9/x.jpg"]) {
      await enter(url);
      assert.match(await problem(page), /cannot be read from here/, url);
      assert.equal(await page.locator("#picture").getAttribute("alt"), "cat.jpg", "what was shown stays");
      await page.evaluate(() => (document.querySelector("#problem").hidden = true));
    }
    await enter(`${open.url}samples/scenes/cat-film.mp4`);
    await page.waitForFunction(() => document.querySelector("#stage").dataset.showing === "video");
    await seesCat(page);
  });

  test("thresholds act at once and are remembered", async (t) => {
    const page = await visit(t, CAT_PAGE);
    await seesCat(page);
    const slider = page.getByLabel("Confidence threshold");
    await slider.fill("10");
    const many = (await labels(page)).length;
    await slider.fill("90");
    assert.equal(await page.locator("#score-text").textContent(), "90 %");
    assert.deepEqual(await labels(page), []);
    assert.equal(await painted(page), 0);
    assert.match(await page.locator("#summary").textContent(), /^Nothing above 90 %; unsure: cat \d+ %/);
    await slider.fill("10");
    assert.equal((await labels(page)).length, many);
    await slider.fill("42");
    await page.getByLabel("Overlap threshold").fill("70");
    await page.getByLabel("Model", { exact: true }).selectOption("large-int8");
    await page.waitForFunction(() => /^416/.test(document.querySelector("#build").textContent), null, { timeout: 60_000 });
    await seesCat(page);
    await page.reload();
    assert.deepEqual([await slider.inputValue(), await page.locator("#iou-text").textContent()], ["42", "70 %"]);
    assert.equal(await page.getByLabel("Model", { exact: true }).inputValue(), "large-int8");
    await seesCat(page);
  });

  test("a browser that forbids memory, or holds nonsense in it, is served", async (t) => {
    const page = await visit(t, { path: "nothing-here", expectErrors: true });
    await page.addInitScript(() => Object.defineProperty(window, "localStorage", { get: () => { throw new DOMException("no", "SecurityError"); } }));
    await page.goto(`${site.url}#sample=cat`);
    await seesCat(page);
    await page.getByLabel("Confidence threshold").fill("50");
    assert.ok(await page.locator("#problem").isHidden());
    const odd = await visit(t);
    await odd.evaluate(() => localStorage.setItem("micro-yolo", '{"score":"<b>","model":"gone","size":7}'));
    await odd.goto(`${site.url}?again#sample=cat`);
    await seesCat(odd);
    assert.equal(await odd.locator("#score-text").textContent(), "30 %");
  });

  test("the overlap threshold changes what is found", async (t) => {
    const page = await visit(t, { path: "#sample=crew&score=10" });
    await sees(page, "person");
    const iou = page.getByLabel("Overlap threshold");
    const settled = async (value) => {
      await iou.fill(value);
      await page.waitForFunction(() => document.querySelector("#spoken").textContent !== "");
      await page.waitForTimeout(300);
      return (await labels(page)).length;
    };
    const [few, many] = [await settled("10"), await settled("90")];
    assert.ok(many > few, `${many} and ${few}`);
  });

  test("nothing jumps while a film runs, and the sentence says what the list says", async (t) => {
    const page = await visit(t, { path: "#sample=tour" });
    await seesCat(page);
    const watched = await page.evaluate(async () => {
      const $ = (id) => document.getElementById(id);
      const places = new Set();
      let wrong = 0;
      let changes = 0;
      let before;
      const spoken = [];
      for (const until = performance.now() + 4000; performance.now() < until; ) {
        await new Promise(requestAnimationFrame);
        const slider = $("score").getBoundingClientRect();
        places.add(`${slider.top} ${slider.left} ${$("plot").getBoundingClientRect().top}`);
        const list = [...document.querySelectorAll("#list .label")].map((one) => one.textContent).join();
        if (list !== before) changes += 1;
        before = list;
        const said = $("summary").textContent;
        const kinds = new Set(list.split(",").filter(Boolean));
        if (kinds.has("cat") !== /\bcats?\b/.test(said.replace(/unsure.*/, ""))) wrong += 1;
        if (spoken.at(-1)?.text !== $("spoken").textContent) spoken.push({ text: $("spoken").textContent, at: performance.now() });
      }
      return { places: [...places], changes, wrong, gaps: spoken.slice(2).map(({ at }, index) => at - spoken[index + 1].at) };
    });
    assert.ok(watched.changes > 1, `the list changed ${watched.changes} times`);
    assert.deepEqual([watched.places.length, watched.wrong], [1, 0], JSON.stringify(watched));
    assert.ok(watched.gaps.every((gap) => gap > 2400), `a screen reader is not talked over: ${watched.gaps}`);
  });

  test("pointing at a row lights its box, and pointing at a box its row", async (t) => {
    const page = await visit(t, { path: "#sample=trio" });
    await sees(page, "cup");
    const lit = () => page.locator("#list [aria-selected=true] .label").allTextContents();
    const before = await painted(page);
    const row = page.locator("#list li").filter({ has: page.locator(".label", { hasText: /^cup$/ }) });
    await row.hover();
    assert.deepEqual(await lit(), ["cup"]);
    assert.notEqual(await painted(page), before, "it is drawn otherwise");
    await page.screenshot({ path: join(SHOTS, "lit.png") });
    const area = await page.locator("#stage").boundingBox();
    // The cat of the scene is at the top right.
    await page.mouse.move(area.x + area.width * 0.85, area.y + area.height * 0.25);
    assert.deepEqual(await lit(), ["cat"]);
    await page.mouse.move(5, 5);
    assert.deepEqual(await lit(), []);
    await page.locator("#list").focus();
    await page.keyboard.press("ArrowDown");
    const [first] = await labels(page);
    assert.deepEqual(await lit(), [first]);
    assert.equal(await page.locator("#list").getAttribute("aria-activedescendant"), "list-0");
    await page.keyboard.press("End");
    assert.deepEqual(await lit(), [(await labels(page)).at(-1)]);
    await page.keyboard.press("Escape");
    assert.deepEqual(await lit(), []);
  });

  test("a film is tracked, with trails", async (t) => {
    const page = await visit(t, { path: "#sample=tour&track=1" });
    await page.locator("#list .label", { hasText: /#\d/ }).first().waitFor({ timeout: 60_000 });
    await page.waitForFunction(() => Number(document.querySelector("#rate").textContent) > 0, null, { timeout: 60_000 });
    assert.match(await page.locator("#detect-time").textContent(), / ms$/);
    await page.waitForTimeout(1000);
    await page.screenshot({ path: join(SHOTS, "tracked.png") });
    await page.getByLabel("Track objects in video").uncheck();
    await page.waitForFunction(() => {
      const labels = [...document.querySelectorAll("#list .label")].map((one) => one.textContent);
      return labels.length && labels.every((label) => !label.includes("#"));
    });
  });

  test("a chosen film plays with boxes", async (t) => {
    const page = await visit(t);
    await page.locator("#file").setInputFiles(join(ROOT, "data/samples/scenes/cat-film.mp4"));
    await page.waitForFunction(() => document.querySelector("#stage").dataset.showing === "video");
    await seesCat(page);
    assert.ok(await page.locator("#problem").isHidden());
    assert.ok(await page.evaluate(() => document.querySelector("#video").currentTime > 0));
    // On a paused film another model looks too.
    await page.evaluate(() => document.querySelector("#video").pause());
    await page.getByLabel("Input size", { exact: true }).selectOption("224");
    await page.waitForFunction(() => /^224/.test(document.querySelector("#build").textContent), null, { timeout: 60_000 });
    await page.waitForFunction(() => document.querySelector("#time").textContent !== "–", null, { timeout: 60_000 });
    await seesCat(page);
  });

  test("two models look at the same picture, and at the same frames", async (t) => {
    const page = await visit(t, { path: "#sample=trio" });
    await sees(page, "cup");
    await page.getByLabel("Compare two models").check();
    await sees(page, "cat", "#list-b");
    assert.match(await page.locator("#build-b").textContent(), /^416/);
    assert.deepEqual(await page.locator("h3").allTextContents(), ["Small, int8", "Large, int8"]);
    for (const id of ["time", "time-b"]) assert.match(await page.locator(`#${id}`).textContent(), / ms$/);
    await page.screenshot({ path: join(SHOTS, "compared.png") });
    const download = page.waitForEvent("download");
    await page.getByRole("button", { name: "Save", exact: true }).click();
    const path = join(temporary, "compared.png");
    await (await download).saveAs(path);
    const png = await readFile(path);
    assert.deepEqual([png.readUInt32BE(16), png.readUInt32BE(20)], [870 * 2 + 9, 570]);
    await writeFile(join(SHOTS, "compared-saved.png"), png);

    await page.getByRole("button", { name: "Film: tour" }).click();
    await sees(page, "cat", "#list-b");
    await page.waitForFunction(() => Number(document.querySelector("#rate-b").textContent) > 0, null, { timeout: 60_000 });
    // Between two frames both show the same one.
    const same = await page.evaluate(async () => {
      const pixels = (id) => {
        const canvas = document.getElementById(id);
        return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.join();
      };
      const video = document.querySelector("#video");
      video.pause();
      await new Promise((resolve) => setTimeout(resolve, 1500));
      return pixels("frame") === pixels("frame-b");
    });
    assert.ok(same);
    await page.screenshot({ path: join(SHOTS, "compared-film.png") });
    await page.getByLabel("Compare two models").uncheck();
    assert.ok(await page.locator("#stage-b").isHidden());
    await page.evaluate(() => document.querySelector("#video").play());
    await page.waitForFunction(() => Number(document.querySelector("#rate").textContent) > 0, null, { timeout: 60_000 });
    assert.ok(await page.locator("#problem").isHidden());
  });

  test("a visitor's own model works, and a broken one gives way to the one before", async (t) => {
    const page = await visit(t, { ...CAT_PAGE, expectErrors: true });
    await seesCat(page);
    const model = page.getByLabel("Model", { exact: true });
    await page.locator("#model-file").setInputFiles({ name: "broken.onnx", mimeType: "", buffer: Buffer.from("no model") });
    assert.match(await problem(page), /no intact ONNX file/);
    assert.equal(await model.inputValue(), "small-int8");
    await seesCat(page);
    await page.locator("#file").setInputFiles(join(ROOT, "tests/e2e/fixtures/red-spot.onnx"));
    await page.waitForFunction(() => /^160 × 160/.test(document.querySelector("#build").textContent), null, { timeout: 60_000 });
    assert.match(await model.evaluate((one) => one.selectedOptions[0].textContent), /^red-spot\.onnx/);
    assert.ok(await page.locator("#problem").isHidden());
    await page.evaluate(async () => {
      const canvas = new OffscreenCanvas(320, 240);
      const context = canvas.getContext("2d");
      context.fillStyle = "rgb(110 120 130)";
      context.fillRect(0, 0, 320, 240);
      context.fillStyle = "rgb(255 0 0)";
      context.fillRect(40, 60, 120, 80);
      const clipboardData = new DataTransfer();
      clipboardData.items.add(new File([await canvas.convertToBlob()], "spot.png", { type: "image/png" }));
      document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
    });
    await sees(page, "red spot");
    assert.equal(await page.locator("#class-input").getAttribute("placeholder"), "all 1");
    // By its address.
    const open = await serve({ headers: { "access-control-allow-origin": "*" } });
    t.after(() => open.close());
    await model.selectOption("small-int8");
    await page.waitForFunction(() => /^320/.test(document.querySelector("#build").textContent), null, { timeout: 60_000 });
    const link = `${site.url}?x#sample=cat&model=${encodeURIComponent(`${open.url}fixtures/red-spot.onnx`)}`;
    await page.goto(link);
    await page.waitForFunction(() => /^160 × 160/.test(document.querySelector("#build").textContent), null, { timeout: 60_000 });
  });

  test("only chosen classes are shown", async (t) => {
    const page = await visit(t, { path: "#sample=trio" });
    await sees(page, "cup");
    const input = page.getByLabel("Show only");
    await input.fill("Cat");
    await input.press("Enter");
    assert.deepEqual(await labels(page), ["cat"]);
    await input.fill("cup");
    await page.getByRole("button", { name: "Add" }).click();
    assert.deepEqual((await labels(page)).sort(), ["cat", "cup"]);
    await input.fill("unicorn");
    await input.press("Enter");
    assert.match(await input.evaluate((one) => one.validationMessage), /No model/);
    await input.fill("");
    await page.getByRole("button", { name: "Remove cat" }).click();
    assert.deepEqual(await labels(page), ["cup"]);
    assert.equal(await page.evaluate(() => document.activeElement.id), "class-input");
    await page.getByRole("button", { name: "Remove cup" }).click();
    assert.equal((await labels(page)).length, 3);
  });

  test("everything that was found can be taken along", async (t) => {
    const page = await visit(t, { ...CAT_PAGE, permissions: ["clipboard-read", "clipboard-write"] });
    await seesCat(page);
    const format = page.getByLabel("Export as");
    const saved = {};
    for (const kind of ["png", "json", "csv", "coco", "yolo"]) {
      await format.selectOption(kind);
      const download = page.waitForEvent("download");
      await page.getByRole("button", { name: "Save", exact: true }).click();
      const file = await download;
      const path = join(temporary, file.suggestedFilename());
      await file.saveAs(path);
      saved[file.suggestedFilename()] = await readFile(path);
    }
    assert.deepEqual(Object.keys(saved), ["cat-boxes.png", "cat-boxes.json", "cat-boxes.csv", "cat-coco.json", "cat.txt"]);
    const png = saved["cat-boxes.png"];
    assert.deepEqual([...png.subarray(1, 4)], [...Buffer.from("PNG")]);
    assert.deepEqual([png.readUInt32BE(16), png.readUInt32BE(20)], [451, 300]);
    await writeFile(join(SHOTS, "saved.png"), png);
    const { objects } = JSON.parse(saved["cat-boxes.json"]);
    assert.equal(objects[0].label, "cat");
    assert.match(saved["cat-boxes.csv"].toString(), /\r\ncat\.jpg,451,300,cat,15,/);
    assert.equal(JSON.parse(saved["cat-coco.json"]).annotations[0].category_id, 16);
    assert.match(saved["cat.txt"].toString(), /^15 0\.\d{6} /);
    await format.selectOption("json");
    await page.getByRole("button", { name: "Copy", exact: true }).click();
    await page.getByRole("button", { name: "Copied" }).waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), saved["cat-boxes.json"].toString());
  });

  test("a link restores what its maker saw", async (t) => {
    const page = await visit(t, { permissions: ["clipboard-read", "clipboard-write"], path: "#sample=crew" });
    await sees(page, "person");
    await page.getByLabel("Confidence threshold").fill("41");
    await page.getByLabel("Input size", { exact: true }).selectOption("256");
    await page.getByLabel("Show only").fill("person");
    await page.getByLabel("Show only").press("Enter");
    await page.getByRole("button", { name: "Copy link" }).click();
    await page.getByRole("button", { name: "Copied" }).waitFor();
    const link = await page.evaluate(() => navigator.clipboard.readText());
    assert.equal(link, `${site.url}#sample=crew&score=41&size=256&classes=person`);
    const other = await visit(t, { path: link.slice(site.url.length) });
    await looked(other, "Crew");
    assert.match(await other.locator("#build").textContent(), /^256 × 256/);
    assert.equal(await other.locator("#score-text").textContent(), "41 %");
    assert.equal(await other.getByRole("button", { name: "Remove person" }).count(), 1);
    // A link that is followed on the open page.
    await other.evaluate(() => (location.hash = "#sample=cat&score=20"));
    await looked(other, "Cat");
    assert.equal(await other.locator("#score-text").textContent(), "20 %");
    // A file has no address.
    await other.locator("#file").setInputFiles(CAT);
    await looked(other, "cat.jpg");
    await other.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await other.getByRole("button", { name: "Copy link" }).click();
    await other.getByRole("button", { name: "Copied, without your picture" }).waitFor();
    // A sample that there is no more: the first one.
    const gone = await visit(t, { path: "#sample=gone" });
    await looked(gone, SAMPLES[0].name);
  });

  test("there is a way back to the start", async (t) => {
    const page = await visit(t, CAT_PAGE);
    await seesCat(page);
    await page.getByRole("button", { name: "Clear" }).click();
    assert.equal(await page.locator("#stage").getAttribute("data-showing"), "nothing");
    assert.deepEqual(await labels(page), []);
    assert.equal(await page.locator("#summary").textContent(), "Nothing yet.");
    assert.ok(await page.getByRole("button", { name: "Save", exact: true }).isDisabled());
    assert.ok(await page.getByRole("button", { name: "Clear" }).isDisabled());
    assert.equal(await page.evaluate(() => document.activeElement.id), "camera");
    await page.screenshot({ path: join(SHOTS, "start.png") });
  });

  test("the camera is watched until it is stopped", async (t) => {
    const clip = join(temporary, "cat.y4m");
    await writeClip(browser, CAT, clip);
    const withCat = await launchChromium([...FAKE_CAMERA, `--use-file-for-fake-video-capture=${clip}`]);
    t.after(() => withCat.close());
    const context = await withCat.newContext({
      viewport: { width: 1200, height: 860 },
      permissions: ["camera"],
      colorScheme: "dark",
    });
    const page = await context.newPage();
    await page.goto(site.url);
    const camera = page.getByRole("button", { name: "Use the camera" });
    await looked(page, SAMPLES[0].name);
    await camera.click();
    await seesCat(page);
    await page.waitForFunction(() => Number(document.querySelector("#rate").textContent) > 0, undefined, { timeout: 60_000 });
    assert.match(await page.locator("#time").textContent(), / ms$/);
    const shot = await page.locator("#stage").screenshot();
    await writeFile(join(SHOTS, "camera-dark.png"), await page.screenshot());
    assert.ok((await pixelsOfBoxes(page, shot)) > 300, "boxes are seen over the mirrored video");
    // Nothing of it is sent anywhere.
    const asked = site.requests.length;
    await page.waitForTimeout(500);
    assert.deepEqual(site.requests.slice(asked), []);
    const stop = page.getByRole("button", { name: "Stop the camera" });
    assert.equal(await stop.getAttribute("aria-pressed"), "true");
    await stop.click();
    await camera.waitFor();
    assert.equal(await page.locator("#stage").getAttribute("data-showing"), "nothing");
    assert.equal(await page.evaluate(() => document.querySelector("#video").srcObject), null);
    // From the camera straight to a picture, and back.
    await camera.click();
    await seesCat(page);
    await page.getByRole("button", { name: "Breakfast" }).click();
    await camera.waitFor();
    assert.equal(await page.locator("#stage").getAttribute("data-showing"), "picture");
  });

  test("with two cameras one can be chosen", async (t) => {
    const two = await launchChromium(["--use-fake-device-for-media-stream=device-count=2"]);
    t.after(() => two.close());
    const page = await (await two.newContext({ permissions: ["camera"] })).newPage();
    await page.goto(site.url);
    await page.getByRole("button", { name: "Use the camera" }).click();
    const choice = page.getByLabel("Which camera");
    await choice.waitFor({ timeout: 60_000 });
    const names = await choice.locator("option").allTextContents();
    assert.equal(names.length, 2);
    const device = () => page.evaluate(() => document.querySelector("#video").srcObject?.getVideoTracks()[0].label);
    const first = await device();
    await choice.selectOption({ label: names.find((name) => name !== first) });
    await page.waitForFunction(
      (first) => {
        const label = document.querySelector("#video").srcObject?.getVideoTracks()[0].label;
        return label && label !== first;
      },
      first,
      { timeout: 60_000 },
    );
    assert.equal(await choice.evaluate((one) => one.selectedOptions[0].textContent), await device());
    assert.ok(await page.locator("#problem").isHidden());
  });

  test("a camera that is denied, or not there, is explained", async (t) => {
    // No permission is given, and a browser without a face denies then.
    const page = await visit(t);
    await page.getByRole("button", { name: "Use the camera" }).click();
    assert.match(await problem(page), /not allowed/);
    await page.screenshot({ path: join(SHOTS, "denied.png") });
    assert.equal(await page.locator("#stage").getAttribute("data-showing"), "nothing");
    // A picture still works, and takes the complaint away.
    await page.getByRole("button", { name: "Cat", exact: true }).click();
    await seesCat(page);
    assert.ok(await page.locator("#problem").isHidden());

    const bare = await launchChromium();
    t.after(() => bare.close());
    const context = await bare.newContext({ permissions: ["camera"] });
    const without = await context.newPage();
    await without.goto(site.url);
    await without.getByRole("button", { name: "Use the camera" }).click();
    await without.locator("#problem").waitFor();
    assert.match(await without.locator("#problem-text").textContent(), /No camera was found/);
  });

  test("a broken file is explained", async (t) => {
    const page = await visit(t, { expectErrors: true });
    for (const [name, mimeType, content] of [
      ["broken.jpg", "image/jpeg", (await readFile(CAT)).subarray(0, 200)],
      ["empty.png", "image/png", Buffer.alloc(0)],
      ["text.txt", "text/plain", Buffer.from("no picture")],
      ["broken.webm", "video/webm", Buffer.from("no video")],
    ]) {
      await page.locator("#file").setInputFiles({ name, mimeType, buffer: content });
      assert.match(await problem(page), /not a picture or video/, name);
    }
    await page.locator("#file").setInputFiles(CAT);
    await looked(page, "cat.jpg");
    assert.ok(await page.locator("#problem").isHidden());
  });

  test("loading shows its progress, and a lost network can be tried again", async (t) => {
    const page = await visit(t, { expectErrors: true, path: "nothing-here" });
    let release;
    const held = new Promise((resolve) => (release = resolve));
    await page.route("**/micro-yolo-s-int8.onnx", async (route) => {
      await held;
      await route.abort("internetdisconnected");
    });
    await page.goto(site.url);
    await page.locator("#loading").waitFor();
    await page.waitForFunction(() => /\d MB/.test(document.querySelector("#loading-text").textContent));
    await page.screenshot({ path: join(SHOTS, "loading.png") });
    // A click during the loading is not lost.
    await page.getByRole("button", { name: "Cat", exact: true }).click();
    release();
    assert.match(await problem(page), /Are you connected/);
    await page.unroute("**/micro-yolo-s-int8.onnx");
    await page.getByRole("button", { name: "Try again" }).click();
    await seesCat(page);
    assert.ok(await page.locator("#problem").isHidden());
  });

  test("an old browser is told what it lacks", async (t) => {
    const page = await visit(t, { expectErrors: true, path: "nothing-here" });
    await page.addInitScript(() => {
      WebAssembly.validate = () => false;
    });
    await page.goto(site.url);
    assert.match(await problem(page), /no SIMD/);
  });

  test("the page may talk to nobody else", async (t) => {
    const page = await visit(t, { expectErrors: true });
    const stranger = await serve();
    t.after(() => stranger.close());
    const outcome = await page.evaluate(async (url) => {
      const blocked = [];
      document.addEventListener("securitypolicyviolation", (event) => blocked.push(event.effectiveDirective));
      const image = new Promise((resolve) => {
        const one = new Image();
        one.onload = () => resolve("loaded");
        one.onerror = () => resolve("blocked");
        one.src = `${url}samples/cat.jpg`;
      });
      const fetched = await fetch(url, { mode: "no-cors" }).then(() => "sent", () => "blocked");
      const beacon = await image;
      return { fetched, beacon, blocked };
    }, stranger.url);
    assert.deepEqual([outcome.fetched, outcome.beacon], ["blocked", "blocked"]);
    assert.deepEqual(outcome.blocked.sort(), ["connect-src", "img-src"]);
    assert.deepEqual(stranger.requests, []);
  });

  test("everything is reached by keyboard, in order, with a name", async (t) => {
    const page = await visit(t);
    await looked(page, SAMPLES[0].name);
    const reached = [];
    for (let step = 0; step < 50; step += 1) {
      await page.keyboard.press("Tab");
      const name = await page.evaluate(() => {
        const one = document.activeElement;
        return one === document.body ? "" : (one.labels?.[0]?.innerText || one.ariaLabel || one.innerText).replace(/^▶\s*/, "").trim();
      });
      if (name && !reached.includes(name)) reached.push(name);
    }
    const links = ["Use it in your page", "Model cards", "How it works", "Performance", "Compression", "Train your own"];
    const expected = ["Use the camera", "Choose files", "Address of a picture, a video or an ONNX model", "Open", "Clear"]
      .concat(SAMPLES.map(({ name }) => name))
      .concat(["Objects found", "Confidence threshold", "Overlap threshold (IoU)", "Model", "Input size", "Compare two models"])
      .concat(["Track objects in video", "Open an ONNX model", "Show only", "Add", "Export as", "Save", "Copy", "Copy link"])
      .concat(["How can nothing leave this machine?", "How does a detector fit into 1.1 MB?"], links);
    assert.deepEqual(reached, expected);
    await page.getByRole("button", { name: "Cat", exact: true }).focus();
    await page.keyboard.press("Enter");
    await seesCat(page);
    // What a screen reader is told.
    assert.equal(await page.locator("#spoken").getAttribute("aria-live"), "polite");
    assert.equal(await page.locator("#problem").getAttribute("role"), "alert");
    assert.equal(await page.locator("#boxes").getAttribute("aria-hidden"), "true");
    const unnamed = await page.evaluate(() =>
      [...document.querySelectorAll("button, input, select, summary")]
        .filter((one) => !(one.innerText?.trim() || one.labels?.length || one.ariaLabel))
        .map((one) => one.outerHTML),
    );
    assert.deepEqual(unnamed, []);
  });

  test("axe finds nothing, in any state", async (t) => {
    const source = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
    const cat = await readFile(CAT);
    for (const colorScheme of ["light", "dark"]) {
      const page = await visit(t, { colorScheme, expectErrors: true, reducedMotion: "reduce" });
      const check = async (state) => {
        await page.evaluate(source);
        const found = await page.evaluate(async () => {
          const { violations } = await window.axe.run();
          return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ").slice(0, 300)}`);
        });
        assert.deepEqual(found, [], `${colorScheme}, ${state}`);
      };
      await looked(page, SAMPLES[0].name);
      await check("arrival");
      await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = true)));
      await page.getByLabel("Show only").fill("cat");
      await page.getByLabel("Show only").press("Enter");
      await page.getByLabel("Compare two models").check();
      await sees(page, "cat", "#list-b");
      await page.locator("#list li").first().hover();
      await check("comparison, details and a chip");
      await page.locator("#file").setInputFiles(["cat.jpg", "broken.png"].map((name, index) => ({
        name,
        mimeType: "image/jpeg",
        buffer: index ? Buffer.from("x") : cat,
      })));
      await page.locator("#mine").getByRole("button", { name: "broken.png" }).click();
      await problem(page);
      await check("strip and problem");
      const seconds = await page.evaluate(() => getComputedStyle(document.querySelector("#camera")).transitionDuration);
      assert.equal(seconds, "0s", "less motion is respected");
    }
  });

  for (const [name, options] of Object.entries({
    "small-phone": { viewport: { width: 320, height: 640 }, deviceScaleFactor: 2, colorScheme: "light", isMobile: true },
    "phone-light": { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, colorScheme: "light", isMobile: true },
    "phone-dark": { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, colorScheme: "dark", isMobile: true },
    "wide-dark": { viewport: { width: 1600, height: 1000 }, colorScheme: "dark" },
  })) {
    test(`fits ${name}`, async (t) => {
      const page = await visit(t, options);
      await page.getByRole("button", { name: "Cat", exact: true }).click();
      await seesCat(page);
      await page.evaluate(() => scrollTo(0, 0));
      await page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true });
      await page.getByLabel("Compare two models").check();
      await sees(page, "cat", "#list-b");
      await page.screenshot({ path: join(SHOTS, `${name}-compared.png`), fullPage: true });
      const layout = await page.evaluate(() => ({
        overflow: document.documentElement.scrollWidth - innerWidth,
        // What a thumb must hit.
        small: [...document.querySelectorAll("button, .button, select")]
          .filter((one) => one.offsetParent)
          .map((one) => one.getBoundingClientRect())
          .filter(({ width, height }) => width < 32 || height < 32).length,
      }));
      assert.deepEqual(layout, { overflow: 0, small: 0 });
    });

    test(`text of ${name} can be read`, async (t) => {
      const page = await visit(t, options);
      const poor = await page.evaluate(() => {
        const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
        const rgb = (color, under = [0, 0, 0]) => {
          canvas.fillStyle = `rgb(${under.join(" ")})`;
          canvas.fillRect(0, 0, 1, 1);
          canvas.fillStyle = color;
          canvas.fillRect(0, 0, 1, 1);
          return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
        };
        const luminance = (color) =>
          color
            .map((value) => value / 255)
            .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
            .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
        const backdrop = (one) => {
          const layers = [];
          for (let at = one; at; at = at.parentElement) layers.unshift(getComputedStyle(at).backgroundColor);
          return layers.reduce((under, color) => rgb(color, under), [255, 255, 255]);
        };
        const poor = [];
        for (const one of document.querySelectorAll("h1, h2, p, span, small, label, button:enabled, dt, dd, summary, output, strong")) {
          if (!one.offsetParent || !one.innerText?.trim() || one.closest("[aria-hidden]")) continue;
          const [a, b] = [luminance(rgb(getComputedStyle(one).color)), luminance(backdrop(one))].sort((x, y) => y - x);
          const contrast = (a + 0.05) / (b + 0.05);
          if (contrast < 4.5) poor.push(`${one.outerHTML.slice(0, 60)} ${contrast.toFixed(2)}`);
        }
        return poor;
      });
      assert.deepEqual(poor, []);
    });
  }
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
  const seesCat = (page) =>
    until(page, () => [...document.querySelectorAll("#list .label")].some((one) => one.textContent === "cat"));

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
      await page.click("#camera");
      await until(page, () => /not allowed/.test(document.querySelector("#problem-text").textContent));
      const input = await page.$("#file");
      await writeFile(join(temporary, "broken.png"), "no picture");
      await input.uploadFile(join(temporary, "broken.png"));
      await until(page, () => /not a picture or video/.test(document.querySelector("#problem-text").textContent));
    } finally {
      await strict.close();
    }
  });
});
