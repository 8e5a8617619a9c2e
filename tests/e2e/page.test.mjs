// The page, as a visitor meets it, in Chromium and Firefox.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";
import { launchChromium, launchFirefox } from "./lib/browsers.mjs";
import { ROOT, serve } from "./lib/server.mjs";
import { writeClip } from "./lib/clip.mjs";

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

  const labels = (page) => page.locator("#list .label").allTextContents();
  const seesCat = (page) => page.locator("#list .label", { hasText: /^cat$/ }).first().waitFor({ timeout: 60_000 });
  const problem = async (page) => {
    await page.locator("#problem").waitFor({ timeout: 60_000 });
    return page.locator("#problem-text").textContent();
  };

  /** How many pixels of the overlay are painted. */
  const painted = (page) =>
    page.evaluate(() => {
      const canvas = document.querySelector("#boxes");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((value, index) => index % 4 === 3 && value > 0).length;
    });

  /** How many pixels of a screenshot have the colour of the class that has most. */
  const pixelsOfBoxes = (page, png) =>
    page.evaluate(
      async ({ base64 }) => {
        const { classColor } = await import("./pkg/draw.js");
        const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
        const shot = await createImageBitmap(new Blob([bytes]));
        const context = new OffscreenCanvas(shot.width, shot.height).getContext("2d");
        const colors = Array.from({ length: 80 }, (_, classId) => {
          context.fillStyle = classColor(classId);
          context.fillRect(0, 0, 1, 1);
          return [...context.getImageData(0, 0, 1, 1).data];
        });
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

  test("a sample is one click away from its boxes", async (t) => {
    const page = await visit(t);
    await page.getByRole("button", { name: "Cat" }).click();
    await seesCat(page);
    assert.match(await page.locator("#summary").textContent(), /\bcat\b/i);
    assert.match(await page.locator("#time").textContent(), /^\d+(\.\d)? ms$/);
    assert.ok((await painted(page)) > 500);
    await page.screenshot({ path: join(SHOTS, "sample-light.png") });
    for (const name of ["Coffee", "Astronaut"]) {
      await page.getByRole("button", { name }).click();
      await page.waitForFunction((name) => document.querySelector("#picture").alt === name, name);
      await page.waitForFunction(() => !/^Looking/.test(document.querySelector("#summary").textContent));
      await page.screenshot({ path: join(SHOTS, `sample-${name.toLowerCase()}.png`) });
    }
    assert.ok(await page.locator("#problem").isHidden());
  });

  test("a file is chosen, and an image keeps the orientation its camera wrote", async (t) => {
    const page = await visit(t);
    await page.locator("#file").setInputFiles(CAT);
    await seesCat(page);
    assert.equal(await page.locator("#picture").getAttribute("alt"), "cat.jpg");
  });

  for (const format of ["mp4", "webm"]) {
    test(`a film is chosen and watched: ${format}`, async (t) => {
      const page = await visit(t);
      await page.locator("#file").setInputFiles(join(ROOT, `tests/e2e/fixtures/cat.${format}`));
      await seesCat(page);
      assert.ok(await page.locator("#problem").isHidden());
    });
  }

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
    await seesCat(page);
    assert.equal(await page.locator("#picture").getAttribute("alt"), "dropped.jpg");
  });

  test("a picture is pasted", async (t) => {
    const page = await visit(t);
    await page.evaluate(async () => {
      const clipboardData = new DataTransfer();
      const blob = await (await fetch("./samples/cat.jpg")).blob();
      clipboardData.items.add(new File([blob], "pasted.jpg", { type: "image/jpeg" }));
      document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
    });
    await seesCat(page);
  });

  test("the threshold hides and shows at once", async (t) => {
    const page = await visit(t);
    await page.getByRole("button", { name: "Cat" }).click();
    await seesCat(page);
    const slider = page.getByLabel("How sure it must be");
    await slider.fill("10");
    const many = (await labels(page)).length;
    await slider.fill("90");
    assert.equal(await page.locator("#threshold-text").textContent(), "90 %");
    const few = (await labels(page)).length;
    assert.ok(few <= many, `${few} of ${many}`);
    const scores = await page.locator("#list .score").allTextContents();
    assert.ok(scores.every((score) => Number.parseInt(score) >= 90), String(scores));
    if (few === 0) {
      assert.equal(await painted(page), 0);
      await page.waitForFunction(() => document.querySelector("#summary").textContent === "Nothing that it knows.");
    }
    await slider.fill("10");
    assert.equal((await labels(page)).length, many);
  });

  test("boxes are as fine as the screen", async (t) => {
    for (const deviceScaleFactor of [1, 1.5, 3]) {
      const page = await visit(t, { deviceScaleFactor });
      await page.getByRole("button", { name: "Cat" }).click();
      await seesCat(page);
      const sizes = await page.evaluate(() => {
        const { width, height, clientWidth, clientHeight } = document.querySelector("#boxes");
        return { width, height, clientWidth, clientHeight };
      });
      assert.equal(sizes.width, Math.round(sizes.clientWidth * deviceScaleFactor));
      assert.equal(sizes.height, Math.round(sizes.clientHeight * deviceScaleFactor));
    }
  });

  test("the picture with its boxes can be saved, and the boxes copied", async (t) => {
    const page = await visit(t, { permissions: ["clipboard-read", "clipboard-write"] });
    await page.getByRole("button", { name: "Cat" }).click();
    await seesCat(page);
    const download = page.waitForEvent("download");
    await page.getByRole("button", { name: "Save picture with boxes" }).click();
    const path = join(temporary, "saved.png");
    await (await download).saveAs(path);
    const png = await readFile(path);
    assert.deepEqual([...png.subarray(1, 4)], [...Buffer.from("PNG")]);
    assert.deepEqual([png.readUInt32BE(16), png.readUInt32BE(20)], [451, 300]);
    await writeFile(join(SHOTS, "saved.png"), png);
    await page.getByRole("button", { name: "Copy boxes as JSON" }).click();
    await page.getByRole("button", { name: "Copied" }).waitFor();
    const copied = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
    assert.equal(copied.width, 451);
    assert.ok(copied.objects.some(({ label }) => label === "cat"));
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
    await page.getByRole("button", { name: "Coffee" }).click();
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
    await page.getByRole("button", { name: "Cat" }).click();
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
    await seesCat(page);
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
    await page.getByRole("button", { name: "Cat" }).click();
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
    const reached = [];
    for (let step = 0; step < 12; step += 1) {
      await page.keyboard.press("Tab");
      const name = await page.evaluate(() => {
        const one = document.activeElement;
        return one === document.body ? "" : (one.labels?.[0]?.innerText ?? one.innerText).trim();
      });
      if (name && !reached.includes(name)) reached.push(name);
    }
    assert.deepEqual(reached, [
      "Use the camera",
      "Choose a picture or video",
      "Cat",
      "Coffee",
      "Astronaut",
      "How sure it must be",
      "How can nothing leave this machine?",
    ]);
    await page.getByRole("button", { name: "Cat" }).focus();
    await page.keyboard.press("Enter");
    await seesCat(page);
    // What a screen reader is told.
    assert.equal(await page.locator("#summary").getAttribute("aria-live"), "polite");
    assert.equal(await page.locator("#problem").getAttribute("role"), "alert");
    assert.equal(await page.locator("#boxes").getAttribute("aria-hidden"), "true");
    const unnamed = await page.evaluate(() =>
      [...document.querySelectorAll("button, input, select, summary")]
        .filter((one) => !(one.innerText?.trim() || one.labels?.length || one.ariaLabel))
        .map((one) => one.outerHTML),
    );
    assert.deepEqual(unnamed, []);
  });

  for (const [name, options] of Object.entries({
    "phone-light": { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, colorScheme: "light", isMobile: true },
    "phone-dark": { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, colorScheme: "dark", isMobile: true },
    "wide-dark": { viewport: { width: 1600, height: 1000 }, colorScheme: "dark" },
  })) {
    test(`fits ${name}`, async (t) => {
      const page = await visit(t, options);
      await page.screenshot({ path: join(SHOTS, `${name}-empty.png`), fullPage: true });
      await page.getByRole("button", { name: "Cat" }).click();
      await seesCat(page);
      await page.evaluate(() => scrollTo(0, 0));
      await page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true });
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
    await page.goto(site.url);
    await page.click('[data-sample="cat.jpg"]');
    await seesCat(page);
    await page.screenshot({ path: join(SHOTS, "firefox.png") });
    const input = await page.$("#file");
    await input.uploadFile(join(ROOT, "data/samples/coffee.jpg"));
    await until(page, () => document.querySelector("#picture").alt === "coffee.jpg");
    await until(page, () => !/^Looking/.test(document.querySelector("#summary").textContent));
    await input.uploadFile(join(ROOT, "tests/e2e/fixtures/cat.webm"));
    await seesCat(page);
    assert.ok(await page.evaluate(() => document.querySelector("#problem").hidden));
    await page.close();
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
