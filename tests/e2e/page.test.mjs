// The page, as a visitor meets it: arriving, sources, the camera, problems, and how it looks.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { launchChromium } from "./lib/browsers.mjs";
import { writeClip } from "./lib/clip.mjs";
import { ROOT, serve } from "./lib/server.mjs";
import {
  CAT, CAT_PAGE, SHOTS, attribute, button, choose, isVisible, labels, looked, named, painted, problem, sees, seesCat,
  text, texts, visitPage,
} from "./lib/visitor.mjs";
import { MODELS } from "../../www/models.js";
import { SAMPLES } from "../../www/samples.js";

const FAKE_CAMERA = ["--use-fake-device-for-media-stream"];

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

/** A second of silence as WAV: 8000 Hz, one channel, 8 bits. */
function silence() {
  const head = Buffer.alloc(44);
  head.write("RIFF", 0);
  head.writeUInt32LE(36 + 8000, 4);
  head.write("WAVEfmt ", 8);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20);
  head.writeUInt16LE(1, 22);
  head.writeUInt32LE(8000, 24);
  head.writeUInt32LE(8000, 28);
  head.writeUInt16LE(1, 32);
  head.writeUInt16LE(8, 34);
  head.write("data", 36);
  head.writeUInt32LE(8000, 40);
  return Buffer.concat([head, Buffer.alloc(8000, 128)]);
}

describe("page in chromium", () => {
  let browser;
  before(async () => {
    browser = await launchChromium(FAKE_CAMERA);
  });
  after(async () => await browser?.close());

  const visit = (t, options) => visitPage(browser, site.url, t, options);

  /** The path of a file with this name and content. */
  const file = async (name, content) => {
    const path = join(temporary, name);
    await writeFile(path, content);
    return path;
  };

  /** How many pixels of a screenshot have the colour of boxes that most have. */
  const pixelsOfBoxes = (page, base64) =>
    page.evaluate(
      async (base64) => {
        const { createPalette } = await import("./pkg/draw.js");
        const color = createPalette();
        const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
        const shot = await createImageBitmap(new Blob([bytes]));
        const context = new OffscreenCanvas(shot.width, shot.height).getContext("2d");
        const palette = Array.from({ length: 12 }, (_, id) => color({ label: String(id) }));
        const colors = palette.map((hex) => [1, 3, 5].map((start) => Number.parseInt(hex.slice(start, start + 2), 16)));
        context.drawImage(shot, 0, 0);
        const { data } = context.getImageData(0, 0, shot.width, shot.height);
        const counts = colors.map(([r, g, b]) => {
          let count = 0;
          for (let at = 0; at < data.length; at += 4) count += data[at] === r && data[at + 1] === g && data[at + 2] === b;
          return count;
        });
        return Math.max(...counts);
      },
      base64,
    );

  test("the time of a picture is not that of a first, slow run", async (t) => {
    const page = await visit(t, CAT_PAGE);
    await seesCat(page);
    // The first look at the next picture, which is square, takes two seconds more.
    await page.evaluate(async () => {
      const { Detector } = await import("./pkg/index.js");
      const { prototype } = Object.getPrototypeOf(Detector);
      const { detect } = prototype;
      globalThis.looks = 0;
      prototype.detect = async function (...given) {
        const isNext = given[0].width === given[0].height;
        const objects = await detect.apply(this, given);
        if (isNext && (globalThis.looks += 1) === 1) await new Promise((resolve) => setTimeout(resolve, 2000));
        return objects;
      };
    });
    await page.locator(button("Astronaut")).click();
    await page.waitForFunction(() => Number.parseFloat(document.querySelector("#time").textContent) >= 2000, { polling: 10 });
    assert.deepEqual(await labels(page), ["person"], "what is found is shown at once");
    await page.waitForFunction(() => Number.parseFloat(document.querySelector("#time").textContent) < 2000);
    assert.equal(await text(page, "#rate"), "–", "one picture is no film");
    const looks = await page.evaluate(() => globalThis.looks);
    assert.ok(looks >= 2 && looks <= 6, String(looks));
  });

  test("a sample runs on arrival, and each shows what it promises", async (t) => {
    const page = await visit(t);
    await looked(page, SAMPLES[0].name);
    assert.ok((await painted(page)) > 500);
    assert.match(await text(page, "#time"), /^\d+(\.\d)? ms$/);
    assert.match(await text(page, "#build"), /^\d+ × \d+ px, (relaxed )?SIMD, 1 thread$/);
    await page.screenshot({ path: join(SHOTS, "arrival-light.png") });
    for (const { name, shows, also = [], file } of SAMPLES) {
      await page.locator(button(name)).click();
      assert.equal(await text(page, "#samples-list [aria-current]"), file.endsWith(".mp4") ? `▶${name}` : name);
      if (file.endsWith(".mp4")) {
        for (const label of shows) await sees(page, label);
        continue;
      }
      await looked(page, name);
      const found = new Set(await labels(page));
      for (const label of shows) assert.ok(found.has(label), `${name}: ${label} is not among ${[...found]}`);
      for (const label of found) assert.ok(shows.includes(label) || also.includes(label), `${name}: ${label} is wrong`);
    }
    assert.ok(!(await isVisible(page, "#problem")));
  });

  test("a file is chosen, several make a strip, and a broken one no broken picture", async (t) => {
    const page = await visit(t, { expectErrors: true });
    await choose(page, "#file", CAT);
    await looked(page, "cat.jpg");
    assert.ok(!(await isVisible(page, "#mine")));
    const coffee = join(ROOT, "data/samples/coffee.jpg");
    await choose(page, "#file", CAT, coffee, await file("broken.png", "x"));
    await looked(page, "cat.jpg");
    const names = () => texts(page, "#mine .name");
    assert.deepEqual(await names(), ["cat.jpg", "coffee.jpg", "broken.png"]);
    await page.waitForSelector("#mine .placeholder", { visible: true });
    await page.locator(`#mine ${button("coffee.jpg")}`).click();
    await looked(page, "coffee.jpg");
    assert.equal(await text(page, "#mine [aria-current] .name"), "coffee.jpg");
    await page.screenshot({ path: join(SHOTS, "several.png") });
    // By keyboard to the next one.
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Enter");
    assert.match(await problem(page), /^broken\.png: .*not a picture or video/);
    // What was shown stays, with what was found in it.
    assert.ok(await isVisible(page, "#picture"));
    assert.equal(await attribute(page, "#picture", "alt"), "coffee.jpg");
    assert.equal(await text(page, "#mine [aria-current] .name"), "coffee.jpg");
    assert.ok((await labels(page)).includes("cup"));
    await page.screenshot({ path: join(SHOTS, "broken.png") });
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Enter");
    await looked(page, "cat.jpg");
    assert.ok(!(await isVisible(page, "#problem")));
    // Of a drop, the pictures; the rest stays in the strip.
    await choose(page, "#file", await file("text.txt", "x"), coffee);
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
    const drag = (type) =>
      page.$eval(
        "#stage",
        (stage, type, dataTransfer) => void stage.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true })),
        type,
        files,
      );
    await drag("dragenter");
    assert.ok(await isVisible(page, "#stage.dropping .drop-hint"));
    await page.screenshot({ path: join(SHOTS, "dropping.png") });
    await drag("drop");
    assert.ok(!(await isVisible(page, ".drop-hint")));
    await looked(page, "dropped.jpg");
  });

  test("a model is dropped", async (t) => {
    const page = await visit(t);
    await looked(page, SAMPLES[0].name);
    await page.$eval("#stage", async (stage) => {
      const dataTransfer = new DataTransfer();
      const blob = await (await fetch("./models/micro-yolo-s-int8.onnx")).blob();
      dataTransfer.items.add(new File([blob], "mine.onnx"));
      dataTransfer.items.add(new File(["person"], "mine.names"));
      dataTransfer.items.add(new File(["MIT"], "LICENSE.txt", { type: "text/plain" }));
      stage.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
    });
    await page.waitForFunction(() => document.querySelector("#model").selectedOptions[0].textContent.startsWith("mine.onnx ("));
    await looked(page, SAMPLES[0].name);
    assert.ok(!(await isVisible(page, "#problem")));
  });

  test("two models that are dropped are compared, on the pictures that came with them", async (t) => {
    const page = await visit(t, { expectErrors: true });
    await looked(page, SAMPLES[0].name);
    const drop = (...names) =>
      page.$eval(
        "#stage",
        async (stage, names) => {
          const dataTransfer = new DataTransfer();
          for (const [name, path, type] of names) {
            const blob = path ? await (await fetch(path)).blob() : new Blob(["no model"]);
            dataTransfer.items.add(new File([blob], name, { type }));
          }
          stage.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
        },
        names,
      );
    const models = () => page.$$eval("#model, #model-b", (all) => all.map((one) => one.selectedOptions[0].textContent.split(" (")[0]));
    const small = ["a.onnx", "./models/micro-yolo-s-int8.onnx", ""];
    const large = ["b.onnx", "./models/micro-yolo-int8.onnx", ""];
    const cat = ["mine.jpg", "./samples/cat.jpg", "image/jpeg"];
    await drop(small, cat, large);
    await sees(page, "cat", "#list-b");
    await looked(page, "mine.jpg");
    assert.deepEqual(await models(), ["a.onnx", "b.onnx"]);
    assert.deepEqual(await texts(page, "h3"), ["a.onnx", "b.onnx"]);
    assert.ok(!(await isVisible(page, "#problem")));
    // Of more, the first two, and it is said.
    await drop(["c.onnx", ...large.slice(1)], ["d.onnx", ...small.slice(1)], ["e.onnx", ...small.slice(1)]);
    assert.match(await problem(page), /^Two models can be compared: c\.onnx and d\.onnx\. /);
    await page.waitForFunction(() => [...document.querySelectorAll("h3")].map((one) => one.textContent).join() === "c.onnx,d.onnx");
    await sees(page, "cat", "#list-b");
    // A broken one is named, and gives way to the one before.
    await drop(["f.onnx", ...small.slice(1)], ["broken.onnx", "", ""]);
    await page.waitForFunction(() => /^broken\.onnx: That model cannot be read/.test(document.querySelector("#problem-text").textContent));
    assert.deepEqual(await models(), ["f.onnx", "d.onnx"]);
    await sees(page, "cat", "#list-b");
    // What is done next takes the message back.
    await page.locator(named("combobox", "Model")).fill("small-int8");
    assert.ok(!(await isVisible(page, "#problem")));
  });

  test("a folder is told from a file", async (t) => {
    const page = await visit(t, CAT_PAGE);
    await looked(page, "Cat");
    const session = await page.createCDPSession();
    const { x, y } = await (await page.$("#stage")).boundingBox();
    const drop = async (...files) => {
      const data = { items: [], files, dragOperationsMask: 1 };
      for (const type of ["dragEnter", "dragOver", "drop"]) await session.send("Input.dispatchDragEvent", { type, x: x + 50, y: y + 50, data });
    };
    const folder = join(ROOT, "data/samples");
    await drop(folder);
    assert.match(await problem(page), /That is a folder/);
    assert.equal(await attribute(page, "#picture", "alt"), "Cat");
    await drop(folder, CAT);
    await looked(page, "cat.jpg");
    assert.ok(!(await isVisible(page, "#problem")));
    // The page's own picture, moved on the page, is no new one.
    await page.mouse.move(x + 100, y + 100);
    await page.mouse.down();
    await page.mouse.move(x + 150, y + 150, { steps: 5 });
    assert.ok(!(await isVisible(page, "#stage.dropping")));
    await page.mouse.up();
    await sleep(300);
    assert.equal(await attribute(page, "#picture", "alt"), "cat.jpg");
    assert.ok(!(await isVisible(page, "#problem")));
  });

  test("an animated picture stands still, as it was when it was looked at", async (t) => {
    const page = await visit(t, CAT_PAGE);
    await looked(page, "Cat");
    const fixtures = join(ROOT, "tests/e2e/fixtures");
    await choose(page, "#model-file", join(fixtures, "red-spot.onnx"));
    await page.waitForFunction(() => /^160/.test(document.querySelector("#build").textContent), { timeout: 60_000 });
    const shown = () =>
      page.$eval("#frame", (frame) => {
        const { data } = frame.getContext("2d").getImageData(0, 0, frame.width, frame.height);
        let area = 0;
        let left = 0;
        for (let at = 0; at < data.length; at += 4) {
          if (data[at] < 240 || data[at + 1] > 20) continue;
          area += 1;
          left += (at / 4) % frame.width;
        }
        return [Math.round(area / 1000), left / area]; // WebP blurs the edges.
      });
    for (const name of ["animated.gif", "animated.webp"]) {
      await choose(page, "#file", join(fixtures, "pictures", name));
      await looked(page, name);
      assert.ok(await isVisible(page, "#frame"), name);
      // 160 × 90 px around 199.5; the second frame, a tenth of a second later, has another rectangle.
      for (let times = 0; times < 5; times += 1) {
        assert.deepEqual(await shown(), [14, 199.5], name);
        await sleep(60);
      }
      await sees(page, "red spot");
    }
    await choose(page, "#file", join(fixtures, "pictures/palette.png"));
    await looked(page, "palette.png");
    assert.ok(!(await isVisible(page, "#frame")), "a still picture is shown by itself");
  });

  test("in forced colours it is seen what is chosen, and which colour is which", async (t) => {
    const page = await visit(t, CAT_PAGE);
    await seesCat(page);
    const session = await page.createCDPSession();
    await session.send("Emulation.setEmulatedMedia", { features: [{ name: "forced-colors", value: "active" }] });
    await page.focus("#list");
    await page.keyboard.press("ArrowDown");
    const seen = await page.evaluate(() => {
      const of = (selector, property, pseudo) => [...document.querySelectorAll(selector)].map((one) => getComputedStyle(one, pseudo)[property]);
      return {
        keys: new Set(of("#result .key", "backgroundColor", "::before")).size,
        samples: of("#samples-list button", "outlineStyle").filter((one) => one === "solid").length,
        objects: of("#list li[aria-selected=true]", "outlineStyle"),
      };
    });
    assert.deepEqual(seen, { keys: 4, samples: 1, objects: ["solid"] });
  });

  test("the footer has the addresses of links.json", async (t) => {
    const links = (page) => page.$$eval("#links a", (all) => all.map(({ textContent, href }) => [textContent, href]));
    const plain = await visit(t);
    await looked(plain, SAMPLES[0].name);
    const without = await links(plain);
    const page = await browser.newPage();
    t.after(() => page.close());
    const filled = { "Source code": "https://example.com/source", npm: "https://example.com/npm" };
    await page.setRequestInterception(true);
    page.on("request", (request) =>
      request.url().endsWith("/links.json")
        ? request.respond({ contentType: "application/json", body: JSON.stringify({ site: "", source: filled["Source code"], npm: filled.npm }) })
        : request.continue(),
    );
    await page.goto(site.url);
    await page.waitForFunction((count) => document.querySelectorAll("#links a").length > count, {}, without.length);
    assert.deepEqual(await links(page), [...Object.entries(filled), ...without]);
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
    const asked = site.requests.length;
    await paste(page, { text: `${site.url}samples/cat.jpg` }, "#address");
    assert.equal(await text(page, "#open"), "Open");
    await paste(page, { text: "hello" });
    assert.match(await problem(page), /no address/);
    assert.equal(await attribute(page, "#picture", "alt"), "coffee.jpg");
    assert.ok(!site.requests.slice(asked).includes("/samples/cat.jpg"));
  });

  test("what is pasted beside a text field is opened, and an address can be given up", async (t) => {
    const page = await visit(t, CAT_PAGE);
    await looked(page, "Cat");
    const paste = (selector, text) =>
      page.$eval(
        selector,
        (one, text) => {
          const clipboardData = new DataTransfer();
          clipboardData.setData("text/plain", text);
          one.focus();
          one.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
        },
        text,
      );
    const url = `${site.url}samples/astronaut.jpg`;
    await paste("#score", url);
    await looked(page, "astronaut.jpg");
    await paste("#address", `${site.url}samples/coffee.jpg`);
    await sleep(300);
    assert.equal(await attribute(page, "#picture", "alt"), "astronaut.jpg", "a field takes its text itself");
    await page.locator(button("Clear")).click();
    assert.ok(await page.$eval("#clear", (one) => one.disabled));
    const { release } = site.hold("/samples/astronaut.jpg");
    t.after(() => site.unroute("/samples/astronaut.jpg"));
    await paste("#track", url);
    await page.waitForSelector(button("Opening …"));
    await page.locator(button("Clear")).click();
    await page.waitForSelector(button("Open"));
    release();
    await sleep(300);
    assert.equal(await attribute(page, "#stage", "data-showing"), "nothing");
    assert.ok(await page.$eval("#clear", (one) => one.disabled));
  });

  test("there is a way back to the start", async (t) => {
    const page = await visit(t, CAT_PAGE);
    await seesCat(page);
    await page.locator(button("Clear")).click();
    assert.equal(await attribute(page, "#stage", "data-showing"), "nothing");
    assert.deepEqual(await labels(page), []);
    assert.equal(await text(page, "#summary"), "Nothing yet.");
    for (const name of ["Save", "Clear"]) assert.ok(await page.$eval(button(name), (one) => one.disabled), name);
    assert.equal(await page.evaluate(() => document.activeElement.id), "camera");
    await page.screenshot({ path: join(SHOTS, "start.png") });
  });

  test("the camera is watched until it is stopped", async (t) => {
    const clip = join(temporary, "cat.y4m");
    await writeClip(browser, CAT, clip);
    const withCat = await launchChromium([...FAKE_CAMERA, `--use-file-for-fake-video-capture=${clip}`]);
    t.after(() => withCat.close());
    await withCat.defaultBrowserContext().overridePermissions(new URL(site.url).origin, ["camera"]);
    const page = await withCat.newPage();
    await page.setViewport({ width: 1200, height: 860 });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
    await page.goto(site.url);
    const camera = button("Use the camera");
    await looked(page, SAMPLES[0].name);
    await page.locator(camera).click();
    await seesCat(page);
    await page.waitForFunction(() => Number(document.querySelector("#rate").textContent) > 0, { timeout: 60_000 });
    assert.match(await text(page, "#time"), / ms$/);
    const shot = await (await page.$("#stage")).screenshot({ encoding: "base64" });
    await writeFile(join(SHOTS, "camera-dark.png"), await page.screenshot());
    assert.ok((await pixelsOfBoxes(page, shot)) > 300, "boxes are seen over the mirrored video");
    // Nothing of it is sent anywhere.
    const asked = site.requests.length;
    await sleep(500);
    assert.deepEqual(site.requests.slice(asked), []);
    const stop = button("Stop the camera");
    assert.equal(await attribute(page, stop, "aria-pressed"), null, "its name says what it does");
    await page.locator(stop).click();
    await page.waitForSelector(camera, { visible: true });
    assert.equal(await attribute(page, "#stage", "data-showing"), "nothing");
    assert.equal(await page.evaluate(() => document.querySelector("#video").srcObject), null);
    // From the camera straight to a picture, and back.
    await page.locator(camera).click();
    await seesCat(page);
    await page.locator(button("Breakfast")).click();
    await page.waitForSelector(camera, { visible: true });
    assert.equal(await attribute(page, "#stage", "data-showing"), "picture");
    // Turned, as a phone's camera: the stage with it.
    const ratio = () => page.$eval("#stage", (stage) => stage.clientWidth / stage.clientHeight);
    assert.ok((await ratio()) > 1);
    await page.locator(camera).click();
    await page.waitForFunction(() => document.querySelector("#stage").dataset.showing === "camera");
    await seesCat(page);
    await page.$eval("#video", ({ srcObject }) => srcObject.getVideoTracks()[0].applyConstraints({ width: { exact: 240 }, height: { exact: 320 } }));
    await page.waitForFunction(() => document.querySelector("#stage").clientWidth < document.querySelector("#stage").clientHeight);
    await page.locator(stop).click();
    // Unplugged: its track ends, and says so.
    await page.locator(camera).click();
    await seesCat(page);
    await page.$eval("#video", ({ srcObject }) => {
      const [track] = srcObject.getVideoTracks();
      track.stop();
      track.dispatchEvent(new Event("ended"));
    });
    assert.match(await problem(page), /Was it unplugged/);
    await page.waitForSelector(camera, { visible: true });
  });

  test("with two cameras one can be chosen", async (t) => {
    const two = await launchChromium(["--use-fake-device-for-media-stream=device-count=2"]);
    t.after(() => two.close());
    await two.defaultBrowserContext().overridePermissions(new URL(site.url).origin, ["camera"]);
    const page = await two.newPage();
    await page.goto(site.url);
    await page.locator(button("Use the camera")).click();
    const choice = await page.waitForSelector(named("combobox", "Which camera"), { visible: true, timeout: 60_000 });
    const options = await choice.$$eval("option", (all) => all.map(({ textContent, value }) => [textContent, value]));
    assert.equal(options.length, 2);
    const device = () => page.evaluate(() => document.querySelector("#video").srcObject?.getVideoTracks()[0].label);
    const first = await device();
    await choice.select(options.find(([name]) => name !== first)[1]);
    await page.waitForFunction(
      (first) => {
        const label = document.querySelector("#video").srcObject?.getVideoTracks()[0].label;
        return label && label !== first;
      },
      { timeout: 60_000 },
      first,
    );
    assert.equal(await choice.evaluate((one) => one.selectedOptions[0].textContent), await device());
    assert.ok(!(await isVisible(page, "#problem")));
    // One that cannot be opened: the one before goes on.
    const current = await device();
    await page.evaluate(() => {
      const { mediaDevices } = navigator;
      const open = mediaDevices.getUserMedia.bind(mediaDevices);
      mediaDevices.getUserMedia = () => {
        mediaDevices.getUserMedia = open;
        return Promise.reject(new DOMException("busy", "NotReadableError"));
      };
    });
    await choice.select(options.find(([name]) => name !== current)[1]);
    assert.match(await problem(page), /in use by another program/);
    assert.equal(await device(), current);
    assert.equal(await choice.evaluate((one) => one.selectedOptions[0].textContent), current);
    await page.waitForFunction(() => Number(document.querySelector("#rate").textContent) > 0, { timeout: 60_000 });
  });

  test("the list of cameras follows those that come and go", async (t) => {
    const two = await launchChromium(["--use-fake-device-for-media-stream=device-count=2"]);
    t.after(() => two.close());
    await two.defaultBrowserContext().overridePermissions(new URL(site.url).origin, ["camera"]);
    const page = await two.newPage();
    // Puppeteer plugs nothing in or out: the page is told less than there is.
    await page.evaluateOnNewDocument(() => {
      const { mediaDevices } = navigator;
      const all = mediaDevices.enumerateDevices.bind(mediaDevices);
      let count = 1;
      mediaDevices.enumerateDevices = async () => {
        let left = count;
        return (await all()).filter(({ kind }) => kind !== "videoinput" || (left -= 1) >= 0);
      };
      globalThis.plug = (now) => {
        count = now;
        mediaDevices.dispatchEvent(new Event("devicechange"));
      };
    });
    await page.goto(site.url);
    await page.evaluate(() => globalThis.plug(2));
    await looked(page, SAMPLES[0].name);
    assert.ok(!(await isVisible(page, "#camera-choice")), "only while a camera runs");
    await page.evaluate(() => globalThis.plug(1));
    await page.locator(button("Use the camera")).click();
    await page.waitForFunction(() => Number(document.querySelector("#rate").textContent) > 0, { timeout: 60_000 });
    assert.ok(!(await isVisible(page, "#camera-choice")));
    await page.evaluate(() => globalThis.plug(2));
    const choice = await page.waitForSelector(named("combobox", "Which camera"), { visible: true });
    const device = () => page.evaluate(() => document.querySelector("#video").srcObject?.getVideoTracks()[0].label);
    assert.equal(await choice.evaluate((one) => one.selectedOptions[0].textContent), await device());
    assert.equal((await choice.$$("option")).length, 2);
    // The list goes with the focus in it.
    await choice.focus();
    await page.evaluate(() => globalThis.plug(1));
    await page.waitForSelector("#camera-choice", { hidden: true });
    assert.equal(await page.evaluate(() => document.activeElement.id), "camera");
    await page.locator(button("Stop the camera")).click();
    await page.evaluate(() => globalThis.plug(2));
    await sleep(200);
    assert.ok(!(await isVisible(page, "#camera-choice")));
  });

  test("while the browser asks for permission, the picture stays, and the camera can be given up", async (t) => {
    const page = await visit(t, CAT_PAGE);
    await seesCat(page);
    await page.evaluate(() => {
      navigator.mediaDevices.getUserMedia = () => new Promise((resolve) => (globalThis.allow = resolve));
    });
    await page.locator(button("Use the camera")).click();
    await page.locator(button("Stop the camera")).click();
    await page.waitForSelector(button("Use the camera"), { visible: true });
    const closed = await page.evaluate(async () => {
      const stream = document.createElement("canvas").captureStream();
      globalThis.allow(stream);
      await new Promise((resolve) => setTimeout(resolve, 200));
      return !stream.active;
    });
    assert.ok(closed, "what comes late is closed");
    assert.equal(await attribute(page, "#picture", "alt"), "Cat");
    assert.deepEqual(await labels(page), ["cat"]);
  });

  test("a camera that is denied, or not there, is explained", async (t) => {
    // No permission is given, and a browser without a face denies then.
    const page = await visit(t);
    await looked(page, SAMPLES[0].name);
    const seen = await labels(page);
    assert.ok(seen.length);
    await page.locator(button("Use the camera")).click();
    assert.match(await problem(page), /not allowed/);
    await page.screenshot({ path: join(SHOTS, "denied.png") });
    assert.equal(await attribute(page, "#stage", "data-showing"), "picture");
    assert.equal(await attribute(page, "#picture", "alt"), SAMPLES[0].name);
    assert.deepEqual(await labels(page), seen, "what was shown stays");
    await page.waitForSelector(button("Use the camera"), { visible: true });
    // A picture still works, and takes the complaint away.
    await page.locator(button("Cat")).click();
    await seesCat(page);
    assert.ok(!(await isVisible(page, "#problem")));

    const bare = await launchChromium();
    t.after(() => bare.close());
    await bare.defaultBrowserContext().overridePermissions(new URL(site.url).origin, ["camera"]);
    const without = await bare.newPage();
    await without.goto(site.url);
    await without.locator(button("Use the camera")).click();
    assert.match(await problem(without), /No camera was found/);
  });

  test("a broken file is explained", async (t) => {
    const page = await visit(t, { expectErrors: true });
    await looked(page, SAMPLES[0].name);
    const seen = await labels(page);
    assert.ok(seen.length);
    for (const [name, content] of [
      ["broken.jpg", (await readFile(CAT)).subarray(0, 200)],
      ["empty.png", ""],
      ["text.txt", "no picture"],
      ["broken.webm", "no video"],
    ]) {
      await choose(page, "#file", await file(name, content));
      await page.waitForFunction((name) => document.querySelector("#problem-text").textContent.startsWith(`${name}: `), {}, name);
      assert.match(await problem(page), /not a picture or video/, name);
    }
    await choose(page, "#file", await file("sound.mp4", silence()));
    await page.waitForFunction(() => /sound in that video, but no picture/.test(document.querySelector("#problem-text").textContent));
    for (const [name, content] of [["IMG_1.HEIC", "ftypheic"], ["IMG_2.jpg", "\0\0\0\x18ftypheic\0\0\0\0"]]) {
      await choose(page, "#file", await file(name, content));
      await page.waitForFunction((name) => document.querySelector("#problem-text").textContent.startsWith(`${name}: This browser cannot open HEIC`), {}, name);
    }
    assert.equal(await attribute(page, "#stage", "data-showing"), "picture");
    assert.equal(await attribute(page, "#picture", "alt"), SAMPLES[0].name);
    assert.deepEqual(await labels(page), seen);
    assert.equal(await attribute(page, "#main", "aria-busy"), "false");
    // Nothing is shown anew: there is nothing to go on with.
    await page.locator(button("Clear")).click();
    await choose(page, "#file", await file("empty.png", ""));
    assert.match(await problem(page), /not a picture or video/);
    assert.equal(await attribute(page, "#stage", "data-showing"), "nothing");
    assert.equal(await text(page, "#summary"), "Nothing yet.");
    await choose(page, "#file", CAT);
    await looked(page, "cat.jpg");
    assert.ok(!(await isVisible(page, "#problem")));
  });

  test("a file that was deleted after it was chosen is not called damaged", async (t) => {
    const page = await visit(t, { ...CAT_PAGE, expectErrors: true });
    await seesCat(page);
    const gone = await file("gone.mp4", await readFile(join(ROOT, "data/samples/scenes/cat-film.mp4")));
    await choose(page, "#file", CAT, gone);
    await looked(page, "cat.jpg");
    await rm(gone);
    await page.locator(`#mine ${button("gone.mp4")}`).click();
    assert.match(await problem(page), /^gone\.mp4: That file cannot be read/);
    assert.equal(await attribute(page, "#picture", "alt"), "cat.jpg");
  });

  test("a video goes on when a file beside it is broken, and a strip stays", async (t) => {
    const page = await visit(t, { expectErrors: true });
    const film = join(ROOT, "data/samples/scenes/cat-film.mp4");
    await choose(page, "#file", film, CAT);
    await page.waitForFunction(() => document.querySelector("#stage").dataset.showing === "video");
    await seesCat(page);
    await choose(page, "#file", await file("broken.mp4", "no video"));
    assert.match(await problem(page), /^broken\.mp4: /);
    assert.deepEqual(await texts(page, "#mine .name"), ["cat-film.mp4", "cat.jpg"]);
    assert.equal(await text(page, "#mine [aria-current] .name"), "cat-film.mp4");
    const before = await page.$eval("#video", (video) => video.currentTime);
    await page.waitForFunction((before) => document.querySelector("#video").currentTime !== before, {}, before);
    await page.$eval("#list", (list) => list.replaceChildren());
    await seesCat(page);
    // Its bytes are still at hand: a look at another place of it needs them.
    await page.$eval("#video", (video) => (video.currentTime = 0.1));
    await page.waitForFunction(() => !document.querySelector("#video").seeking);
    assert.equal(await page.$eval("#video", ({ error }) => error), null);
    // Nor do other settings make it stop.
    await page.locator(named("combobox", "Input size")).fill("224");
    assert.ok(!(await isVisible(page, "#problem")));
    await page.waitForFunction(() => /^224/.test(document.querySelector("#build").textContent), { timeout: 60_000 });
    await seesCat(page);
  });

  test("while the next picture is on its way, the one before stays, dimmed, and can be gone on with", async (t) => {
    const page = await visit(t, CAT_PAGE);
    await seesCat(page);
    const { release, dropped } = site.hold("/samples/astronaut.jpg");
    t.after(() => site.unroute("/samples/astronaut.jpg"));
    await page.locator(button("Astronaut")).click();
    assert.equal(await text(page, ".samples [aria-current] .name"), "Astronaut");
    assert.equal(await attribute(page, "#main", "aria-busy"), "true");
    await page.waitForFunction(() => getComputedStyle(document.querySelector("#picture")).opacity === "0.5");
    assert.equal(await attribute(page, "#picture", "alt"), "Cat");
    assert.deepEqual(await labels(page), ["cat"]);
    // Another choice ends the download.
    await page.locator(button("Coffee")).click();
    await looked(page, "Coffee");
    await dropped;
    // One whose bytes are still read when it is there already does not come after what was chosen later.
    await page.evaluate(() => {
      const read = Blob.prototype.arrayBuffer;
      const allowed = new Promise((resolve) => (globalThis.allow = resolve));
      Blob.prototype.arrayBuffer = async function () {
        if (this.size > 0x1000) await allowed; // More than what tells what it is.
        return read.call(this);
      };
      globalThis.shown = [];
      new MutationObserver(() => globalThis.shown.push(document.querySelector("#picture").alt)).observe(document.querySelector("#stage"), { childList: true });
    });
    await choose(page, "#file", CAT);
    await sleep(500); // Loaded.
    await page.locator(button("Breakfast")).click();
    await looked(page, "Breakfast");
    await page.evaluate(() => globalThis.allow());
    await sleep(300);
    assert.deepEqual(await page.evaluate(() => globalThis.shown.filter((name, at, all) => name !== all[at - 1])), ["Breakfast"]);
    await page.evaluate(() => location.reload());
    await looked(page, "Cat");
    assert.equal(await attribute(page, "#main", "aria-busy"), "false");
    assert.equal(await page.$eval("#picture", (one) => getComputedStyle(one).opacity), "1");
    await page.locator(button("Astronaut")).click();
    // So does the way back to the start.
    await page.locator(button("Clear")).click();
    release();
    await sleep(300);
    assert.equal(await attribute(page, "#stage", "data-showing"), "nothing");
    assert.equal(await attribute(page, ".samples [aria-current]", "aria-current").catch(() => "none"), "none");
  });

  test("names do not decide what a file is", async (t) => {
    const page = await visit(t, { expectErrors: true });
    const film = await readFile(join(ROOT, "data/samples/scenes/cat-film.mp4"));
    const webm = await readFile(join(ROOT, "tests/e2e/fixtures/cat.webm"));
    const photo = await readFile(CAT);
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="300" height="200"><rect width="300" height="200" fill="red"/></svg>`;
    for (const [name, content] of [["photo.mp4", photo], ["photo.txt", photo], ["photo", photo], ["photo.svg", photo], ["drawing.png", svg], ["drawing.mp4", svg]]) {
      await choose(page, "#file", await file(name, content));
      await looked(page, name);
      if (content === photo) assert.deepEqual(await labels(page), ["cat"], name);
      assert.ok(!(await isVisible(page, "#problem")), name);
    }
    for (const [name, content] of [["film.jpg", film], ["film.svg", film], ["film", webm], ["film.mp4", webm]]) {
      await page.locator(button("Astronaut")).click();
      await looked(page, "Astronaut");
      await choose(page, "#file", await file(name, content));
      await page.waitForFunction(() => document.querySelector("#stage").dataset.showing === "video");
      await seesCat(page);
      assert.ok(!(await isVisible(page, "#problem")), name);
    }
    // In the strip too.
    await choose(page, "#file", await file("film.jpg", film), await file("photo.mp4", photo));
    await page.waitForFunction(() => document.querySelectorAll("#mine .thumb").length === 2);
    assert.deepEqual(await page.$$eval("#mine .thumb", (all) => all.map(({ firstChild }) => firstChild.nodeName)), ["I", "IMG"]);
  });

  test("a sample that does not come is no broken file", async (t) => {
    const page = await visit(t, { ...CAT_PAGE, expectErrors: true });
    await seesCat(page);
    for (const [name, path] of [["Astronaut", "/samples/astronaut.jpg"], ["Video: tour", "/samples/scenes/tour.mp4"]]) {
      site.route(path, (_, response) => response.destroy());
      t.after(() => site.unroute(path));
      await page.locator(button(name)).click();
      assert.match(await problem(page), /sample could not be loaded/);
      site.unroute(path);
      await page.locator(button(name)).click();
      await sees(page, "person");
      assert.ok(!(await isVisible(page, "#problem")));
    }
  });

  test("loading shows its progress, and a lost network can be tried again", async (t) => {
    const page = await visit(t, { expectErrors: true, path: "nothing-here" });
    let release;
    const held = new Promise((resolve) => (release = resolve));
    await page.setRequestInterception(true);
    const lose = async (request) => {
      if (!request.url().endsWith("/micro-yolo-int8.onnx")) return request.continue();
      await held;
      await request.abort("internetdisconnected");
    };
    page.on("request", lose);
    await page.goto(site.url);
    await page.waitForSelector("#loading", { visible: true });
    await page.waitForFunction(() => /\d MB/.test(document.querySelector("#loading-text").textContent));
    await page.screenshot({ path: join(SHOTS, "loading.png") });
    // A click during the loading is not lost.
    await page.locator(button("Cat")).click();
    release();
    assert.match(await problem(page), /Are you connected/);
    assert.equal(await text(page, "#summary"), "Nothing yet.");
    // Another picture does not change that.
    await page.locator(button("Breakfast")).click();
    await page.waitForFunction(() => document.querySelector("#picture").alt === "Breakfast");
    await page.waitForFunction(() => document.querySelector("#summary").textContent === "Nothing yet.");
    assert.match(await problem(page), /Are you connected/);
    await page.setRequestInterception(false);
    page.off("request", lose);
    await page.locator(button("Try again")).click();
    await seesCat(page);
    assert.ok(!(await isVisible(page, "#problem")));
  });

  test("nothing is left behind: pictures, a failed detector", async (t) => {
    const page = await visit(t, { expectErrors: true, path: "nothing-here" });
    await page.evaluateOnNewDocument(() => {
      delete globalThis.Worker; // So that the page computes itself, and nobody takes the pictures that it gives.
      const make = globalThis.createImageBitmap;
      globalThis.made = [];
      globalThis.createImageBitmap = async (...given) => {
        const bitmap = await make(...given);
        globalThis.made.push(bitmap);
        return bitmap;
      };
    });
    await page.goto(`${site.url}#sample=cat`);
    await seesCat(page);
    // A bitmap without width is closed.
    const closed = () => page.evaluate(() => globalThis.made.length && globalThis.made.every(({ width }) => width === 0));
    assert.ok(await closed());
    const disposed = await page.evaluate(async () => {
      const { Detector } = await import("./pkg/index.js");
      const { prototype } = Object.getPrototypeOf(Detector);
      const { detect, dispose } = prototype;
      const failed = new Set();
      const ended = new Set();
      prototype.detect = function (...given) {
        if (globalThis.works || given[0].width !== 32) return detect.apply(this, given);
        failed.add(this);
        return Promise.reject(Object.assign(new Error("the first run fails"), { code: "crashed" }));
      };
      prototype.dispose = function () {
        ended.add(this);
        return dispose.call(this);
      };
      const size = document.querySelector("#size");
      size.value = "224";
      size.dispatchEvent(new Event("change"));
      while (document.querySelector("#problem").hidden) await new Promise((resolve) => setTimeout(resolve, 50));
      globalThis.works = true;
      return [failed.size, [...failed].every((one) => ended.has(one))];
    });
    assert.deepEqual(disposed, [1, true]);
    // In a comparison of frames each model gets a copy.
    await page.locator(button("Try again")).click();
    await page.locator(button("Video: cat")).click();
    await page.locator(named("checkbox", "Compare two models")).click();
    await sees(page, "cat", "#list-b");
    await page.locator(button("Clear")).click();
    await page.waitForFunction(() => globalThis.made.every(({ width }) => width === 0));
  });

  test("where a canvas draws no round corners, labels have square ones", async (t) => {
    const page = await visit(t, { path: "nothing-here", expectErrors: true });
    await page.evaluateOnNewDocument(() => {
      for (const one of [CanvasRenderingContext2D, OffscreenCanvasRenderingContext2D]) delete one.prototype.roundRect;
    });
    await page.goto(`${site.url}#sample=cat`);
    await looked(page, "Cat");
    await seesCat(page);
    assert.ok((await painted(page)) > 500);
    assert.ok(!(await isVisible(page, "#problem")));
  });

  test("an old browser is told what it lacks", async (t) => {
    const page = await visit(t, { expectErrors: true, path: "nothing-here" });
    await page.evaluateOnNewDocument(() => {
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
    const unmarked = [];
    for (let step = 0; step < 50; step += 1) {
      await page.keyboard.press("Tab");
      const name = await page.evaluate(() => {
        const one = document.activeElement;
        return one === document.body ? "" : (one.labels?.[0]?.innerText || one.ariaLabel || one.innerText).replace(/^▶\s*/, "").trim();
      });
      if (name && !reached.includes(name)) reached.push(name);
      // A field for files is not seen itself: its label is.
      const isMarked = await page.evaluate(() => {
        const one = document.activeElement;
        return one === document.body || getComputedStyle(one.type === "file" ? one.labels[0] : one).outlineStyle === "solid";
      });
      if (!isMarked) unmarked.push(name);
    }
    assert.deepEqual(unmarked, [], "it is seen where the focus is");
    const links = ["Use it in your page", "Model cards", "How it works", "Performance", "Compression", "Train your own"];
    const expected = ["Use the camera", "Choose files", "Address of a picture, a video or an ONNX model", "Open", "Clear"]
      .concat(SAMPLES.map(({ name }) => name))
      .concat(["Objects found", "Confidence threshold", "Overlap threshold (IoU)", "Model", "Input size", "Compare two models"])
      .concat(["Track objects in video", "Open an ONNX model", "Show only", "Add", "Export as", "Save", "Copy", "Copy link"])
      .concat(["How can nothing leave this machine?", "What do the settings mean?", `How does a detector fit into ${(MODELS[0].bytes / 1e6).toFixed(1)} MB?`], links);
    assert.deepEqual(reached, expected);
    await page.focus(button("Cat"));
    await page.keyboard.press("Enter");
    await seesCat(page);
    // What a screen reader is told.
    assert.equal(await attribute(page, "#spoken", "aria-live"), "polite");
    assert.equal(await attribute(page, "#problem", "role"), "alert");
    assert.equal(await attribute(page, "#boxes", "aria-hidden"), "true");
    const unnamed = await page.evaluate(() =>
      [...document.querySelectorAll("button, input, select, summary")]
        .filter((one) => !(one.innerText?.trim() || one.labels?.length || one.ariaLabel))
        .map((one) => one.outerHTML),
    );
    assert.deepEqual(unnamed, []);
    assert.equal(await attribute(page, "#score", "aria-valuetext"), await text(page, "#score-text"));
    // The slider says its value itself.
    assert.equal(await attribute(page, "#score-text", "aria-live"), "off");
  });

  test("without JavaScript the page says at its top that it needs it", async (t) => {
    const context = await browser.createBrowserContext();
    t.after(() => context.close());
    const page = await context.newPage();
    await page.setJavaScriptEnabled(false);
    await page.goto(site.url);
    const says = await page.$("noscript .problem");
    const { y, height } = await says.boundingBox();
    const stage = await (await page.$("#stage")).boundingBox();
    assert.ok(y > 0 && y + height < stage.y, `${y} to ${y + height}, above ${stage.y}`);
  });

  test("a print has the picture and all that was found, and nothing to press", async (t) => {
    const page = await visit(t);
    await looked(page, SAMPLES[0].name);
    await page.emulateMediaType("print");
    assert.ok((await isVisible(page, "#stage")) && (await isVisible(page, "#list .label")));
    const pressed = await page.$$eval("button, input, select, a, summary", (all) => all.filter((one) => one.checkVisibility()).length);
    assert.equal(pressed, 0);
    await page.$eval("#list", (list) => list.append(...Array.from({ length: 40 }, () => list.firstElementChild.cloneNode(true))));
    const [shown, whole] = await page.$eval("#list", (list) => [list.clientHeight, list.scrollHeight]);
    assert.equal(shown, whole, "the list is not cut");
  });

  test("a panorama leaves room for what lies over it", async (t) => {
    const page = await visit(t);
    const svg = '<svg xmlns="http://www.w3.org/2000/svg" width="4000" height="20"><rect width="4000" height="20" fill="teal"/></svg>';
    await choose(page, "#file", await file("panorama.svg", svg));
    await looked(page, "panorama.svg");
    const { height } = await (await page.$("#stage")).boundingBox();
    const loading = await page.$eval("#loading", (one) => {
      one.hidden = false;
      const { height } = one.getBoundingClientRect();
      one.hidden = true;
      return height;
    });
    assert.ok(height >= loading, `${height} px for the ${loading} px of the loading bar`);
  });

  test("axe finds nothing, in any state", async (t) => {
    const source = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
    for (const colorScheme of ["light", "dark"]) {
      const media = { "prefers-color-scheme": colorScheme, "prefers-reduced-motion": "reduce" };
      const page = await visit(t, { media, expectErrors: true });
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
      await page.locator(named("combobox", "Show only")).fill("cat");
      await page.keyboard.press("Enter");
      await page.locator(named("checkbox", "Compare two models")).click();
      await sees(page, "cat", "#list-b");
      await page.hover("#list li");
      await check("comparison, details and a chip");
      await choose(page, "#file", CAT, await file("broken.png", "x"));
      await page.locator(`#mine ${button("broken.png")}`).click();
      await problem(page);
      await check("strip and problem");
      const seconds = await page.evaluate(() => getComputedStyle(document.querySelector("#camera")).transitionDuration);
      assert.equal(seconds, "0s", "less motion is respected");
    }
  });

  test("nothing sticks out of a window of 200 px, nor do long words of one of 320 px", async (t) => {
    const page = await visit(t, { viewport: { width: 200, height: 640 } });
    await seesCat(page);
    const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(await overflow(), 0);
    await page.locator(named("checkbox", "Compare two models")).click();
    await sees(page, "cat", "#list-b");
    assert.equal(await overflow(), 0, "with two models");
    await page.evaluate(() => {
      document.querySelector("#problem").hidden = false;
      document.querySelector("#problem-text").textContent = `http://localhost/${"folder".repeat(20)}.jpg could not be fetched`;
    });
    await page.evaluate(() => {
      document.querySelector("#list .label").textContent = "class".repeat(20); // Of a visitor's model, as its name.
      document.querySelector("#name").textContent = document.querySelector("#tag").textContent = `${"network".repeat(20)}.onnx`;
    });
    const cut = () =>
      page.evaluate(() => ["#list", "#result", "#stage"].filter((one) => document.querySelector(one).scrollWidth > document.querySelector(one).clientWidth));
    assert.deepEqual(await cut(), [], "with long names");
    await page.screenshot({ path: join(SHOTS, "narrow.png"), fullPage: true });
    assert.equal(await overflow(), 0, "with a long address");
    await page.setViewport({ width: 320, height: 640 });
    assert.equal(await overflow(), 0, "with a long address at 320 px");
    const lines = await page.$$eval("#result .figures dd", (all) => all.map((one) => Math.round(one.getBoundingClientRect().top)));
    assert.equal(lines[0], lines[1], "one number beside the other, though one label has two lines");
  });

  const PHONE = { deviceScaleFactor: 2, isMobile: true };

  test("a message is seen on a phone too, where what was done is far below it", async (t) => {
    const page = await visit(t, { ...CAT_PAGE, expectErrors: true, viewport: { width: 390, height: 844, ...PHONE } });
    await seesCat(page);
    await page.$eval("#model-file", (one) => one.labels[0].scrollIntoView({ block: "end" }));
    assert.ok((await page.evaluate(() => scrollY)) > 400);
    await choose(page, "#model-file", await file("no-model.onnx", "x"));
    assert.match(await problem(page), /^no-model\.onnx: That model cannot be read/);
    const { top, bottom } = await page.$eval("#problem", (one) => one.getBoundingClientRect().toJSON());
    assert.ok(top >= 0 && bottom <= 844, `${top} to ${bottom} px`);
    // It moves nothing that is seen.
    const before = await page.evaluate(() => scrollY);
    await choose(page, "#model-file", await file("no-model.onnx", "x"));
    await page.waitForFunction(() => document.querySelector("#problem").hidden);
    await problem(page);
    assert.equal(await page.evaluate(() => scrollY), before);
  });

  for (const [name, [colorScheme, viewport]] of Object.entries({
    "small-phone": ["light", { width: 320, height: 640, ...PHONE }],
    "phone-on-its-side": ["light", { width: 844, height: 390, ...PHONE }],
    "small-phone-on-its-side": ["dark", { width: 568, height: 320, ...PHONE }],
    "phone-light": ["light", { width: 360, height: 740, ...PHONE }],
    "phone-dark": ["dark", { width: 360, height: 740, ...PHONE }],
    "wide-dark": ["dark", { width: 1600, height: 1000 }],
  })) {
    test(`fits ${name}, and its text can be read`, async (t) => {
      const page = await visit(t, { viewport, media: { "prefers-color-scheme": colorScheme } });
      await page.locator(button("Cat")).click();
      await seesCat(page);
      await page.evaluate(() => scrollTo(0, 0));
      await page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true });
      const below = () =>
        page.evaluate(() =>
          [...document.querySelectorAll("#stage, .actions :is(button, .button)")]
            .filter((one) => one.getBoundingClientRect().bottom > innerHeight)
            .map(({ id }) => id),
        );
      assert.deepEqual(await below(), [], "picture and buttons are seen without scrolling");
      await page.evaluate(() => {
        document.querySelector("#problem").hidden = false;
        document.querySelector("#problem-text").textContent = "Something went wrong.";
      });
      assert.deepEqual(await below(), [], "with a problem too");
      const beyond = await page.evaluate(() => {
        const [problem, choice, select] = ["problem", "camera-choice", "camera-select"].map((id) => document.getElementById(id));
        problem.hidden = true;
        choice.hidden = false;
        select.replaceChildren(new Option("A camera that says its maker, its model and its place in the machine (0bda:58f4)"));
        const over = select.getBoundingClientRect().right - document.querySelector(".actions").getBoundingClientRect().right;
        choice.hidden = true;
        return over;
      });
      assert.ok(beyond < 1, `a long name of a camera sticks out by ${beyond} px`);
      await page.locator(named("checkbox", "Compare two models")).click();
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
