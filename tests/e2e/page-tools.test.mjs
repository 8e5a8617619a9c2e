// What the page offers beyond a look: thresholds, films, comparison, own models, filters, exports and links.
import assert from "node:assert/strict";
import { copyFile, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { launchChromium } from "./lib/browsers.mjs";
import { ROOT, serve } from "./lib/server.mjs";
import {
  CAT, CAT_PAGE, SHOTS, attribute, button, choose, downloaded, isVisible, labels, looked, named, painted, pasteRecording,
  playsAgain, problem, sees, seesCat, text, texts, value, visitPage,
} from "./lib/visitor.mjs";
import { SAMPLES } from "../../www/samples.js";
import { DEFAULTS } from "../../www/settings.js";

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

describe("tools of the page in chromium", () => {
  let browser;
  before(async () => {
    browser = await launchChromium();
  });
  after(async () => await browser?.close());

  const visit = (t, options) => visitPage(browser, site.url, t, options);

  test("an address of another site is fetched where that site allows it, and only then", async (t) => {
    const page = await visit(t, { expectErrors: true });
    const open = await serve({ headers: { "access-control-allow-origin": "*" } });
    const closed = await serve();
    const isolated = await serve({
      headers: {
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-embedder-policy": "require-corp",
        "cross-origin-resource-policy": "same-origin",
      },
    });
    t.after(() => Promise.all([open.close(), closed.close(), isolated.close()]));
    const address = page.locator(named("textbox", "Address of a picture, a video or an ONNX model"));
    const enter = async (url) => {
      await address.fill(url);
      await page.locator(button("Open")).click();
    };
    await enter(`${open.url}samples/cat.jpg`);
    await looked(page, "cat.jpg");
    assert.deepEqual(open.requests, ["/samples/cat.jpg"]);
    for (const url of [`${closed.url}samples/cat.jpg`, `${open.url}missing.jpg`, "http://127.0.0.1:9/x.jpg"]) {
      await enter(url);
      assert.match(await problem(page), /cannot be read from here/, url);
      assert.equal(await attribute(page, "#picture", "alt"), "cat.jpg", "what was shown stays");
      await page.evaluate(() => (document.querySelector("#problem").hidden = true));
    }
    // The address of the page around a picture.
    open.route("/wiki/File:Cat.jpg", (_, response) =>
      response.writeHead(200, { "content-type": "text/html; charset=utf-8", "access-control-allow-origin": "*" }).end("<!doctype html><title>Cat</title>"),
    );
    await enter(`${open.url}wiki/File:Cat.jpg`);
    assert.match(await problem(page), /^File:Cat\.jpg: That is a web page/);
    // One that is no web address does not end what is on its way.
    const { release } = open.hold("/samples/astronaut.jpg");
    await enter(`${open.url}samples/astronaut.jpg`);
    await address.fill("ftp://example.org/x.jpg");
    await page.focus("#address");
    await page.keyboard.press("Enter");
    assert.match(await problem(page), /no web address/);
    release();
    await looked(page, "astronaut.jpg");
    assert.deepEqual([await text(page, "#open"), await attribute(page, "#main", "aria-busy")], ["Open", "false"]);
    await enter(`${open.url}samples/scenes/cat-film.mp4`);
    await page.waitForFunction(() => document.querySelector("#stage").dataset.showing === "video");
    await seesCat(page);
    assert.equal(await text(page, "#open"), "Open");
    // Also where the page is cross-origin isolated, as threads need it.
    await page.goto(`${isolated.url}#url=${encodeURIComponent(`${open.url}samples/cat.jpg`)}`);
    await looked(page, "cat.jpg");
    assert.ok(await page.evaluate(() => crossOriginIsolated));
  });

  test("thresholds act at once and are remembered", async (t) => {
    const page = await visit(t, CAT_PAGE);
    await seesCat(page);
    const slider = page.locator(named("slider", "Confidence threshold"));
    await slider.fill("10");
    const many = (await labels(page)).length;
    await slider.fill("90");
    assert.equal(await text(page, "#score-text"), "90 %");
    assert.deepEqual(await labels(page), []);
    assert.equal(await painted(page), 0);
    assert.match(await text(page, "#summary"), /^Nothing above 90\s%; unsure: cat \d+\s%/);
    await slider.fill("10");
    assert.equal((await labels(page)).length, many);
    await slider.fill("42");
    await page.locator(named("slider", "Overlap threshold (IoU)")).fill("70");
    await page.locator(named("combobox", "Model")).fill("small-int8");
    await page.waitForFunction(() => /^416/.test(document.querySelector("#build").textContent), { timeout: 60_000 });
    await seesCat(page);
    await page.goto(`${site.url}?again`);
    assert.deepEqual([await value(page, "#score"), await text(page, "#iou-text")], ["42", "70 %"]);
    assert.equal(await value(page, "#model"), "small-int8");
    await seesCat(page);
    // But a link shows what its maker saw, who left out what is as by default.
    await page.goto(`${site.url}?link#sample=cat&score=41`);
    assert.deepEqual([await value(page, "#score"), await text(page, "#iou-text")], ["41", `${DEFAULTS.iou} %`]);
    assert.equal(await value(page, "#model"), DEFAULTS.model);
    await seesCat(page);
  });

  test("a browser that forbids memory, or holds nonsense in it, is served", async (t) => {
    const page = await visit(t, { path: "nothing-here", expectErrors: true });
    await page.evaluateOnNewDocument(() => Object.defineProperty(window, "localStorage", { get: () => { throw new DOMException("no", "SecurityError"); } }));
    await page.goto(`${site.url}#sample=cat`);
    await seesCat(page);
    await page.locator(named("slider", "Confidence threshold")).fill("50");
    assert.ok(!(await isVisible(page, "#problem")));
    const odd = await visit(t);
    await odd.evaluate(() => localStorage.setItem("micro-yolo", '{"score":"<b>","model":"gone","size":7}'));
    // As in a sandboxed frame.
    await odd.evaluateOnNewDocument(() => Object.defineProperty(navigator, "serviceWorker", { get: () => { throw new DOMException("no", "SecurityError"); } }));
    await odd.goto(`${site.url}?again`);
    await seesCat(odd);
    assert.equal(await text(odd, "#score-text"), `${DEFAULTS.score} %`);
  });

  test("the overlap threshold changes what is found", async (t) => {
    const page = await visit(t, { path: "#sample=crew&score=10" });
    await sees(page, "person");
    const iou = page.locator(named("slider", "Overlap threshold (IoU)"));
    const before = (await labels(page)).length;
    await iou.fill("90");
    // More of the same boxes stay.
    await page.waitForFunction((before) => document.querySelectorAll("#list .label").length > before, {}, before);
    await iou.fill(String(DEFAULTS.iou));
    await page.waitForFunction((before) => document.querySelectorAll("#list .label").length === before, {}, before);
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
      const guesses = spoken.filter(({ text }) => text.includes("unsure")).length;
      return { places: [...places], changes, wrong, guesses, gaps: spoken.slice(2).map(({ at }, index) => at - spoken[index + 1].at) };
    });
    assert.ok(watched.changes > 1, `the list changed ${watched.changes} times`);
    // Guesses are another in each frame: they are read, not heard.
    assert.deepEqual([watched.places.length, watched.wrong, watched.guesses], [1, 0, 0], JSON.stringify(watched));
    assert.ok(watched.gaps.every((gap) => gap > 2400), `a screen reader is not talked over: ${watched.gaps}`);
  });

  test("pointing at a row highlights its box, and pointing at a box its row", async (t) => {
    const page = await visit(t, { path: "#sample=trio" });
    await sees(page, "cup");
    const highlighted = () => texts(page, "#list [aria-selected=true] .label");
    const before = await painted(page);
    const rows = await page.$$("#list li");
    await rows[(await labels(page)).indexOf("cup")].hover();
    assert.deepEqual(await highlighted(), ["cup"]);
    assert.notEqual(await painted(page), before, "it is drawn otherwise");
    await page.screenshot({ path: join(SHOTS, "highlighted.png") });
    const area = await (await page.$("#stage")).boundingBox();
    // The cat of the scene is at the top right.
    await page.mouse.move(area.x + area.width * 0.85, area.y + area.height * 0.25);
    assert.deepEqual(await highlighted(), ["cat"]);
    await page.mouse.move(5, 5);
    assert.deepEqual(await highlighted(), []);
    await page.focus("#list");
    await page.keyboard.press("ArrowDown");
    const [first] = await labels(page);
    assert.deepEqual(await highlighted(), [first]);
    assert.equal(await attribute(page, "#list", "aria-activedescendant"), "list-0");
    await page.keyboard.press("End");
    assert.deepEqual(await highlighted(), [(await labels(page)).at(-1)]);
    await page.keyboard.press("Escape");
    assert.deepEqual(await highlighted(), []);
  });

  test("what is tapped stays highlighted when the finger is lifted", async (t) => {
    const page = await visit(t, { path: "#sample=trio", viewport: { width: 1200, height: 860, hasTouch: true } });
    await sees(page, "cup");
    const highlighted = () => texts(page, "#list [aria-selected=true] .label");
    const { x, y, width, height } = await (await page.$("#stage")).boundingBox();
    await page.touchscreen.tap(x + width * 0.85, y + height * 0.25);
    assert.deepEqual(await highlighted(), ["cat"]);
    await (await page.$$("#list li"))[(await labels(page)).indexOf("cup")].tap();
    assert.deepEqual(await highlighted(), ["cup"]);
    // Between person and cat.
    await page.touchscreen.tap(x + width * 0.62, y + height * 0.5);
    assert.deepEqual(await highlighted(), []);
  });

  test("a film is tracked, with trails", async (t) => {
    const page = await visit(t, { path: "#sample=tour&track=1" });
    await page.waitForFunction(() => [...document.querySelectorAll("#list .label")].some((one) => /#\d/.test(one.textContent)), { timeout: 60_000 });
    await page.waitForFunction(() => Number(document.querySelector("#rate").textContent) > 0, { timeout: 60_000 });
    // All at once: they change with every frame.
    const ids = ["time", "pixels-time", "network-time", "boxes-time", "draw-time"];
    const parts = await page.evaluate((ids) => ids.map((id) => document.getElementById(id).textContent), ids);
    for (const text of parts) assert.match(text, / ms$/);
    const [all, ...split] = parts.map(parseFloat);
    assert.ok(split.every((one) => one < all) && Math.abs(all - split.reduce((sum, one) => sum + one)) < 2.1, parts.join(", "));
    await sleep(1000);
    await page.screenshot({ path: join(SHOTS, "tracked.png") });
    await page.locator(named("checkbox", "Track objects in video")).click();
    await page.waitForFunction(() => {
      const labels = [...document.querySelectorAll("#list .label")].map((one) => one.textContent);
      return labels.length && labels.every((label) => !label.includes("#"));
    });
  });

  test("a trail leads from where an object was to where it is, in its colour, and thins out behind it", async (t) => {
    const page = await visit(t, { path: "#track=1" });
    const fixture = (name) => join(ROOT, "tests/e2e/fixtures", name);
    await choose(page, "#model-file", fixture("red-spot.onnx"));
    await page.waitForFunction(() => /^160 × 160/.test(document.querySelector("#build").textContent), { timeout: 60_000 });
    // Slowly, so that a busy machine looks at many of its 24 frames.
    await page.$eval("#video", (video) => (video.defaultPlaybackRate = 0.25));
    await choose(page, "#file", fixture("spot.mp4"));
    await page.waitForFunction(
      () => {
        const video = document.querySelector("#video");
        if (video.currentTime > 0.7) video.pause();
        return video.currentTime > 0.7;
      },
      { timeout: 60_000 },
    );
    /** Once the last frame was looked at. */
    const settled = async () => {
      for (let before; ; await sleep(500)) {
        const now = await page.$eval("#boxes", (canvas) => canvas.toDataURL());
        if (now === before) return;
        before = now;
      }
    };
    /** What is painted over the film: of each column of pixels at the height of the spot's middle. */
    const row = async () => {
      await settled();
      return page.evaluate(() => {
        const canvas = document.querySelector("#boxes");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const scale = canvas.width / 320;
        const middle = Math.round(130 * scale);
        const columns = Array.from({ length: 320 }, (_, x) => {
          const at = (y) => 4 * (y * canvas.width + Math.round((x + 0.5) * scale));
          const painted = Array.from({ length: 17 }, (_, index) => at(middle - 8 + index)).filter((index) => data[index + 3] > 8);
          return { thick: painted.length, color: [...data.slice(at(middle), at(middle) + 3)] };
        });
        const swatch = getComputedStyle(document.querySelector("#list .swatch")).backgroundColor.match(/\d+/g).map(Number);
        return { columns, swatch };
      });
    };
    const { columns, swatch } = await row();
    await page.locator(named("combobox", "Export as")).fill("json");
    const { bytes } = await downloaded(page, temporary, () => page.locator(button("Save")).click());
    const [{ box, trackId }] = JSON.parse(bytes).objects;
    assert.ok(trackId >= 0 && Math.abs(box.width - 80) < 6 && box.x > 100, JSON.stringify(box));
    const now = Math.round(box.x + box.width / 2);
    const thick = (from, to) => columns.slice(from, to).map((one) => one.thick);
    // It moves to the right. Behind its middle the trail, which reaches out of its box; ahead of it nothing but the box.
    assert.ok(Math.min(...thick(now - 56, now - 1)) > 0, String(thick(now - 56, now - 1)));
    assert.deepEqual(thick(now + 5, now + 35), Array(30).fill(0));
    const start = columns.findIndex((one) => one.thick > 0);
    assert.ok(start >= 40, "no sooner than its middle was, in the first frame");
    const mean = (values) => values.reduce((sum, one) => sum + one, 0) / values.length;
    assert.ok(mean(thick(start, start + 12)) < mean(thick(now - 14, now - 2)), `${thick(start, now)}`);
    for (const { color } of columns.slice(now - 8, now - 2)) {
      assert.ok(color.every((value, channel) => Math.abs(value - swatch[channel]) < 30), `${color} for ${swatch}`);
    }
    await page.locator(named("checkbox", "Track objects in video")).click();
    await page.waitForFunction(() => document.querySelector("#list .label")?.textContent === "red spot");
    const untracked = (await row()).columns.slice(now - 34, now + 34).map((one) => one.thick);
    assert.deepEqual(untracked, Array(68).fill(0), "inside of its box nothing is left");
  });

  test("the plot has a column for each frame, made of its parts, the newest on the right", async (t) => {
    const page = await visit(t, { path: "#sample=tour" });
    await seesCat(page);
    /** In the page: of each of the plot's 120 columns how high it is in pixels, and of which parts it is made. */
    await page.evaluate(() => {
      globalThis.columnsOf = (canvas, colors) => {
        const { width, height } = canvas;
        const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
        const known = Object.entries(colors).map(([part, color]) => [part, [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16))]);
        return Array.from({ length: 120 }, (_, index) => {
          const parts = {};
          let painted = 0;
          for (let y = height - 1; y >= 0; y -= 1) {
            const at = 4 * (y * width + Math.floor(((index + 0.5) * width) / 120));
            if (data[at + 3] > 0) painted += 1;
            const name = known.find(([, rgb]) => rgb.every((value, channel) => Math.abs(value - data[at + channel]) < 3))?.[0];
            if (name) parts[name] = (parts[name] ?? 0) + 1;
          }
          return { painted, parts };
        });
      };
      globalThis.plotColors = () => {
        const style = getComputedStyle(document.querySelector("#plot"));
        return Object.fromEntries(["pixels", "network", "boxes", "draw"].map((part) => [part, style.getPropertyValue(`--plot-${part}`).trim()]));
      };
    });
    const plot = () =>
      page.evaluate(() => ({
        columns: globalThis.columnsOf(document.querySelector("#plot"), globalThis.plotColors()),
        height: document.querySelector("#plot").height,
        top: document.querySelector("#plot-top").textContent,
      }));
    const filled = ({ columns }) => columns.filter(({ painted }) => painted > 0).length;
    await page.waitForFunction(() => document.querySelector("#rate").textContent !== "–", { timeout: 60_000 });
    const early = await plot();
    assert.ok(filled(early) >= 2, String(filled(early)));
    await page.waitForFunction(
      (least) => globalThis.columnsOf(document.querySelector("#plot"), globalThis.plotColors()).filter(({ painted }) => painted > 0).length >= least,
      { timeout: 60_000, polling: 250 },
      filled(early) + 10,
    );
    const late = await plot();
    for (const { columns, top, height } of [early, late]) {
      assert.ok(columns.slice(-filled({ columns })).every(({ painted }) => painted > 0), "side by side, up to the right end");
      assert.match(top, /^\d+ ms$/);
      const tallest = Math.max(...columns.map(({ painted }) => painted));
      assert.ok(tallest > 0.35 * height && tallest <= height, `${tallest} of ${height}: 1, 2 or 5 times a power of ten fits`);
    }
    // Of times that are known, in a canvas whose columns are of whole pixels.
    const known = await page.evaluate(async () => {
      const { drawPlot } = await import("./timing.js");
      const canvas = document.body.appendChild(document.createElement("canvas"));
      canvas.style.cssText = "position: absolute; left: 0; top: 0; width: 480px; height: 100px";
      const colors = globalThis.plotColors();
      const frames = [{ pixels: 10, network: 50, boxes: 15, draw: 5 }, { pixels: 0, network: 20, boxes: 0, draw: 10 }];
      const top = drawPlot(canvas, frames, colors);
      const columns = globalThis.columnsOf(canvas, colors);
      const [x, order] = [4 * 118 + 1, []];
      const { data } = canvas.getContext("2d").getImageData(x, 0, 1, 100);
      for (let y = 99; y >= 0; y -= 1) {
        const color = `#${[...data.slice(4 * y, 4 * y + 3)].map((value) => value.toString(16).padStart(2, "0")).join("")}`;
        const part = Object.keys(colors).find((one) => colors[one] === color);
        if (part && order.at(-1) !== part) order.push(part);
      }
      drawPlot(canvas, Array(120).fill({ pixels: 0, network: 1, boxes: 0, draw: 0 }), colors);
      const full = globalThis.columnsOf(canvas, colors).filter(({ parts }) => parts.network === 100).length;
      canvas.remove();
      return { top, columns, order, full };
    });
    assert.equal(known.top, 100);
    const made = known.columns.map(({ parts }) => parts);
    assert.deepEqual(made.slice(-2), [{ pixels: 10, network: 50, boxes: 15, draw: 5 }, { network: 20, draw: 10 }]);
    assert.equal(filled(known), 2);
    assert.deepEqual(known.order, ["pixels", "network", "boxes", "draw"], "from the bottom");
    assert.equal(known.full, 120);
  });

  test("come back to with the back button, the film goes on, and so do its boxes", async (t) => {
    // What must not be stored is not kept for the button either.
    const kept = await serve({ headers: { "cache-control": "no-cache" } });
    t.after(() => kept.close());
    const page = await visitPage(browser, kept.url, t, { path: "#sample=tour" });
    await page.waitForFunction(() => document.querySelector("#video").currentTime > 0.3, { timeout: 60_000 });
    await page.evaluate(() => {
      // As Chromium does itself, but not always.
      document.addEventListener("freeze", () => document.querySelector("#video").pause());
      addEventListener("pageshow", ({ persisted }) => (document.title = `kept: ${persisted}`));
    });
    kept.route("/elsewhere.html", (_, response) => response.writeHead(200, { "content-type": "text/html" }).end("<link rel=icon href=data:,>"));
    await page.goto(`${kept.url}elsewhere.html`);
    await page.goBack();
    await page.waitForFunction(() => document.title === "kept: true");
    const before = await page.$eval("#video", (video) => video.currentTime);
    await page.waitForFunction((before) => document.querySelector("#video").currentTime !== before, { timeout: 10_000 }, before);
    await page.$eval("#list", (list) => list.replaceChildren());
    await page.waitForSelector("#list .label", { visible: true, timeout: 10_000 });
  });

  test("come back to anew, the controls say what holds", async (t) => {
    const page = await visit(t, CAT_PAGE);
    await seesCat(page);
    await page.locator(named("checkbox", "Compare two models")).click();
    await page.locator(named("slider", "Confidence threshold")).fill("70");
    await sees(page, "cat", "#list-b");
    await page.goto(`${site.url}manifest.webmanifest`);
    await page.goBack();
    await seesCat(page);
    await page.waitForFunction(() => document.readyState === "complete");
    // A link's settings: the threshold of before is not among them, and a comparison is not remembered.
    const controls = [await page.$eval("#compare", (one) => one.checked), await value(page, "#score"), await text(page, "#score-text")];
    assert.deepEqual(controls, [await isVisible(page, "#stage-b"), String(DEFAULTS.score), `${DEFAULTS.score} %`]);
    assert.equal(controls[0], false);
  });

  test("a chosen film plays with boxes", async (t) => {
    const page = await visit(t);
    await choose(page, "#file", join(ROOT, "data/samples/scenes/cat-film.mp4"));
    await page.waitForFunction(() => document.querySelector("#stage").dataset.showing === "video");
    await seesCat(page);
    assert.ok(!(await isVisible(page, "#problem")));
    assert.ok(await page.evaluate(() => document.querySelector("#video").currentTime > 0));
    // On a paused film another model looks too.
    await page.evaluate(() => document.querySelector("#video").pause());
    await page.locator(named("combobox", "Input size")).fill("224");
    await page.waitForFunction(() => /^224/.test(document.querySelector("#build").textContent), { timeout: 60_000 });
    await page.waitForFunction(() => document.querySelector("#time").textContent !== "–", { timeout: 60_000 });
    await seesCat(page);
    // With another overlap too: what was in the list is written anew.
    await sleep(1000);
    await page.$eval("#list .score", (one) => (one.textContent = "old"));
    await page.locator(named("slider", "Overlap threshold (IoU)")).fill("60");
    await page.waitForFunction(() => document.querySelector("#list .score")?.textContent !== "old");
    await seesCat(page);
    // What is saved names a picture: the frame.
    await page.locator(named("combobox", "Export as")).fill("json");
    const { name, bytes } = await downloaded(page, temporary, () => page.locator(button("Save")).click());
    const [, stem] = /^(cat-film-\d\.\ds)-boxes\.json$/.exec(name);
    assert.equal(JSON.parse(bytes).image, `${stem}.png`);
  });

  test("films in WebM play over and over, from a file and from a recorder", async (t) => {
    const page = await visit(t, { path: "#sample=astronaut&track=1" });
    await choose(page, "#file", join(ROOT, "tests/e2e/fixtures/cat.webm"));
    await playsAgain(page);
    await pasteRecording(page);
    await playsAgain(page);
  });

  test("a video that breaks off says so, with one model and with two, and its last frame stays", async (t) => {
    const page = await visit(t, { path: "#sample=astronaut", expectErrors: true });
    const tour = await readFile(join(ROOT, "data/samples/scenes/tour.mp4"));
    // Its index is at its beginning.
    const half = join(temporary, "half.mp4");
    await writeFile(half, tour.subarray(0, tour.length / 2));
    await sees(page, "person");
    for (const compare of [false, true]) {
      if (compare) await page.locator(named("checkbox", "Compare two models")).click();
      await choose(page, "#file", half);
      assert.match(await problem(page), /^half\.mp4: The video breaks off here/, `compared: ${compare}`);
      assert.equal(await attribute(page, "#stage", "data-showing"), "video");
      // The frame that is seen may be a later one than was looked at.
      assert.deepEqual(await labels(page), []);
      assert.equal(await text(page, "#summary"), "Nothing yet.");
      await page.locator(button("Cat")).click();
      await looked(page, "Cat");
      assert.ok(!(await isVisible(page, "#problem")));
    }
  });

  test("a video that its server calls mere bytes plays", async (t) => {
    const page = await visit(t);
    await page.evaluate(async () => {
      const clipboardData = new DataTransfer();
      const blob = await (await fetch("./samples/scenes/cat-film.mp4")).blob();
      clipboardData.items.add(new File([blob], "film.mp4", { type: "application/octet-stream" }));
      document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
    });
    await page.waitForFunction(() => document.querySelector("#stage").dataset.showing === "video");
    await seesCat(page);
  });

  test("while another model loads, a video has no boxes, and if it does not come, the other of two goes on", async (t) => {
    const page = await visit(t, { path: "#sample=cat-film", expectErrors: true });
    await seesCat(page);
    const path = "/models/micro-yolo-s.onnx";
    const { release } = site.hold(path);
    t.after(() => site.unroute(path));
    await page.locator(named("combobox", "Model")).fill("small-float");
    await page.waitForFunction(() => document.querySelector("#summary").textContent === "Looking …");
    const nothing = async () => [await painted(page), await labels(page), await page.$eval("#save", (one) => one.disabled)];
    assert.deepEqual(await nothing(), [0, [], true]);
    release();
    await seesCat(page);
    // In a picture they stay until the other model has looked, and are named after the one that found them.
    await page.locator(button("Cat")).click();
    await seesCat(page);
    await page.locator(named("combobox", "Export as")).fill("json");
    const held = site.hold("/models/micro-yolo.onnx");
    t.after(() => site.unroute("/models/micro-yolo.onnx"));
    await page.locator(named("combobox", "Model")).fill("large-float");
    await page.waitForSelector("#loading", { visible: true });
    const { bytes } = await downloaded(page, temporary, () => page.locator(button("Save")).click());
    assert.deepEqual([JSON.parse(bytes).model, JSON.parse(bytes).objects[0].label], ["Small, float", "cat"]);
    held.release();
    await seesCat(page);
    // One that does not come leaves nothing of the one before.
    site.route("/models/micro-yolo-s-int8.onnx", (request, response) => response.writeHead(500).end());
    t.after(() => site.unroute("/models/micro-yolo-s-int8.onnx"));
    await page.locator(named("combobox", "Model")).fill("small-int8");
    assert.match(await problem(page), /could not be loaded/);
    await page.waitForFunction(() => document.querySelector("#summary").textContent === "Nothing yet.");
    assert.deepEqual(await nothing(), [0, [], true]);
    // That stays said, whatever else is done, until there is a model.
    await page.locator(button("Copy link")).click();
    assert.ok(await isVisible(page, "#problem"));
    await page.locator(named("combobox", "Model")).fill(DEFAULTS.model);
    await seesCat(page);
    assert.ok(!(await isVisible(page, "#problem")));
    // Of two, the other.
    await page.locator(button("Video: cat")).click();
    await page.locator(named("checkbox", "Compare two models")).click();
    assert.match(await problem(page), /could not be loaded/);
    await seesCat(page);
    await page.waitForFunction(() => Number(document.querySelector("#rate").textContent) > 0, { timeout: 60_000 });
    assert.equal(await text(page, "#summary-b"), "Nothing yet.");
    site.unroute("/models/micro-yolo-s-int8.onnx");
    await page.locator(button("Try again")).click();
    await sees(page, "cat", "#list-b");
    assert.ok(!(await isVisible(page, "#problem")));
  });

  test("a comparison that begins during a video goes on with the first model until the second is there", async (t) => {
    const page = await visit(t, { path: "#sample=cat" });
    await seesCat(page);
    await page.locator(button("Video: tour")).click();
    await seesCat(page);
    const { release } = site.hold("/models/micro-yolo-s-int8.onnx");
    t.after(() => site.unroute("/models/micro-yolo-s-int8.onnx"));
    await page.locator(named("checkbox", "Compare two models")).click();
    await page.waitForSelector("#loading-b", { visible: true });
    // Meanwhile the first model goes on.
    await page.waitForSelector("#frame", { visible: true });
    await page.waitForFunction(() => Number(document.querySelector("#rate").textContent) > 0, { timeout: 60_000 });
    assert.ok(!(await isVisible(page, "#frame-b")));
    release();
    await sees(page, "cat", "#list-b");
    assert.ok(await isVisible(page, "#frame"));
    // Pointed at, the controls of the video show.
    await page.hover("#stage");
    assert.ok(!(await isVisible(page, "#frame")));
    await page.hover("#stage-b");
    assert.ok(await isVisible(page, "#frame"));
    // A picture is shown by itself, and by the second model as a copy of it.
    await page.locator(button("Cat")).click();
    await looked(page, "Cat");
    await sees(page, "cat", "#list-b");
    assert.deepEqual([await isVisible(page, "#frame"), await isVisible(page, "#frame-b")], [false, true]);
    await page.locator(button("Clear")).click();
    assert.ok(!(await isVisible(page, "#frame-b")));
    const outlines = await page.$$eval("#stage, #stage-b", (all) => all.map((one) => getComputedStyle(one).outlineStyle));
    assert.deepEqual(outlines, ["dashed", "dashed"], "both are empty");
  });

  test("a model behind an address is fetched once, and no longer when nobody wants it", async (t) => {
    const open = await serve({ headers: { "access-control-allow-origin": "*" } });
    t.after(() => open.close());
    const path = "/models/micro-yolo-s.onnx";
    const { dropped } = open.hold(path);
    const page = await visit(t, { path: `#sample=cat&model=${encodeURIComponent(open.url.slice(0, -1) + path)}` });
    await page.waitForSelector("#loading", { visible: true });
    const size = page.locator(named("combobox", "Input size"));
    for (const value of ["224", "256"]) await size.fill(value);
    await page.waitForFunction(() => document.querySelector("#size").value === "256");
    while (!open.requests.length) await sleep(50);
    await sleep(300);
    assert.deepEqual(open.requests, [path]);
    await page.locator(named("combobox", "Model")).fill(DEFAULTS.model);
    await dropped;
    await seesCat(page);
    assert.ok(!(await isVisible(page, "#problem")));
  });

  test("what cannot be saved or copied is explained", async (t) => {
    const page = await visit(t, { ...CAT_PAGE, expectErrors: true, permissions: ["clipboard-read", "clipboard-sanitized-write"] });
    const thrown = [];
    page.on("pageerror", (error) => thrown.push(String(error)));
    await seesCat(page);
    await page.evaluate(() => {
      HTMLCanvasElement.prototype.toBlob = (done) => setTimeout(done, 0, null);
    });
    for (const name of ["Save", "Copy"]) {
      await page.locator(button(name)).click();
      assert.match(await problem(page), /file could not be made/, name);
      await page.evaluate(() => (document.querySelector("#problem").hidden = true));
    }
    assert.deepEqual(thrown, []);
    // A browser that copies text only.
    await page.reload();
    await seesCat(page);
    await page.evaluate(() => {
      delete globalThis.ClipboardItem;
      navigator.clipboard.writeText = async (text) => void (globalThis.copied = text);
    });
    await page.locator(button("Copy")).click();
    assert.match(await problem(page), /did not let the page copy/);
    await page.locator(named("combobox", "Export as")).fill("csv");
    await page.locator(button("Copy")).click();
    await page.waitForSelector(button("Copied"), { visible: true });
    assert.match(await page.evaluate(() => globalThis.copied), /^image,/);
    assert.ok(!(await isVisible(page, "#problem")), "what succeeds takes the message back");
  });

  test("two models look at the same picture, and at the same frames", async (t) => {
    const page = await visit(t, { path: "#sample=trio" });
    await sees(page, "cup");
    await page.locator(named("checkbox", "Compare two models")).click();
    await sees(page, "cat", "#list-b");
    assert.match(await text(page, "#build-b"), /^416/);
    assert.deepEqual(await texts(page, "h3"), ["Large, int8", "Small, int8"]);
    for (const id of ["time", "time-b"]) assert.match(await text(page, `#${id}`), / ms$/);
    await page.screenshot({ path: join(SHOTS, "compared.png") });
    const { bytes: png } = await downloaded(page, temporary, () => page.locator(button("Save")).click());
    assert.deepEqual([png.readUInt32BE(16), png.readUInt32BE(20)], [870 * 2 + 9, 570 + 44]);
    await writeFile(join(SHOTS, "compared-saved.png"), png);

    await page.locator(button("Video: tour")).click();
    await sees(page, "cat", "#list-b");
    await page.waitForFunction(() => Number(document.querySelector("#rate-b").textContent) > 0, { timeout: 60_000 });
    // Between two frames both show the same one.
    const same = await page.evaluate(async () => {
      const pixels = (id) => {
        const canvas = document.getElementById(id);
        return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.join();
      };
      const video = document.querySelector("#video");
      video.pause();
      // The frame that was looked at last is finished first, on a busy machine in seconds.
      for (let tries = 0; tries < 20; tries += 1) {
        await new Promise((resolve) => setTimeout(resolve, 500));
        if (pixels("frame") === pixels("frame-b")) return true;
      }
      return false;
    });
    assert.ok(same);
    await page.screenshot({ path: join(SHOTS, "compared-film.png") });
    await page.locator(named("checkbox", "Compare two models")).click();
    assert.ok(!(await isVisible(page, "#stage-b")));
    await page.evaluate(() => document.querySelector("#video").play());
    await page.waitForFunction(() => Number(document.querySelector("#rate").textContent) > 0, { timeout: 60_000 });
    assert.ok(!(await isVisible(page, "#problem")));
  });

  test("a visitor's own model works, and a broken one gives way to the one before", async (t) => {
    const page = await visit(t, { ...CAT_PAGE, expectErrors: true });
    await seesCat(page);
    const broken = join(temporary, "broken.onnx");
    await writeFile(broken, "no model");
    await choose(page, "#model-file", broken);
    assert.match(await problem(page), /no intact ONNX file/);
    assert.equal(await value(page, "#model"), DEFAULTS.model);
    await seesCat(page);
    // One of this project's networks, which the plain engine runs.
    const mine = join(temporary, "mine.onnx");
    await copyFile(join(ROOT, "models/micro-yolo-s.onnx"), mine);
    await choose(page, "#model-file", mine);
    const { size } = await stat(mine);
    await page.waitForFunction(
      (text) => document.querySelector("#model").selectedOptions[0].textContent === text,
      {},
      `mine.onnx (${(size / 1e6).toFixed(1)} MB)`,
    );
    await page.waitForFunction(() => /^416/.test(document.querySelector("#build").textContent), { timeout: 60_000 });
    await seesCat(page);
    assert.ok(!(await isVisible(page, "#problem")));
    // It was deleted after it had been opened, and is needed once more.
    await rm(mine);
    await page.locator(named("combobox", "Input size")).fill("320");
    assert.match(await problem(page), /^mine\.onnx: That file cannot be read/);
    await page.waitForFunction((id) => document.querySelector("#model").value === id, {}, DEFAULTS.model);
    assert.equal(await value(page, "#size"), "0");
    await page.waitForFunction(() => document.querySelector("#loading").hidden && /^416/.test(document.querySelector("#build").textContent), { timeout: 60_000 });
    await seesCat(page);
    assert.match(await problem(page), /That file cannot be read/);
    // One that worked, and no longer does: tried once, and not over and over.
    await copyFile(join(ROOT, "models/micro-yolo-s.onnx"), mine);
    await choose(page, "#model-file", mine);
    await page.waitForFunction(() => document.querySelector("#problem").hidden && /^416/.test(document.querySelector("#build").textContent), { timeout: 60_000 });
    await page.evaluate(async () => {
      const { Detector } = await import("./pkg/index.js");
      const { load } = Detector;
      globalThis.tried = 0;
      Detector.load = function (options) {
        if (!(options.model instanceof Blob)) return load.call(Detector, options);
        globalThis.tried += 1;
        return Promise.reject(Object.assign(new Error("no memory is left"), { code: "model-too-large" }));
      };
    });
    await page.locator(named("combobox", "Input size")).fill("320");
    await page.waitForFunction((id) => document.querySelector("#model").value === id, {}, DEFAULTS.model);
    await page.waitForFunction(() => /^416/.test(document.querySelector("#build").textContent), { timeout: 60_000 });
    assert.match(await problem(page), /no memory is left/);
    assert.equal(await page.evaluate(() => globalThis.tried), 2, "with the size, and without");
    // By its address, which a link can name.
    const open = await serve({ headers: { "access-control-allow-origin": "*" } });
    t.after(() => open.close());
    await page.goto(`${site.url}?x#sample=cat&model=${encodeURIComponent(`${open.url}models/micro-yolo-s.onnx`)}`);
    await page.waitForFunction(() => document.querySelector("#model").selectedOptions[0].textContent.startsWith("micro-yolo-s.onnx ("));
    await seesCat(page);
    assert.deepEqual(open.requests, ["/models/micro-yolo-s.onnx"]);
    // And one that is not there.
    await page.evaluate((url) => (location.hash = `#sample=cat&model=${encodeURIComponent(`${url}gone.onnx`)}`), open.url);
    assert.match(await problem(page), /cannot be read from here/);
    await page.waitForFunction(() => document.querySelector("#model").value !== "");
    await seesCat(page);
  });

  test("a network of another project brings in the full engine", async (t) => {
    const page = await visit(t, { ...CAT_PAGE, expectErrors: true });
    await seesCat(page);
    await choose(page, "#file", join(ROOT, "tests/e2e/fixtures/red-spot.onnx"));
    await page.waitForFunction(() => /^160 × 160/.test(document.querySelector("#build").textContent), { timeout: 60_000 });
    assert.match(await page.$eval("#model", (one) => one.selectedOptions[0].textContent), /^red-spot\.onnx/);
    assert.ok(!(await isVisible(page, "#problem")));
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
    assert.equal(await attribute(page, "#class-input", "placeholder"), "all 1");
    // A network that works, but at its own size only.
    await page.locator(named("combobox", "Input size")).fill("320");
    assert.match(await problem(page), /does not take this input size/);
    await page.waitForFunction(() => document.querySelector("#size").value === "0");
    await sees(page, "red spot");
  });

  test("only chosen classes are shown", async (t) => {
    const page = await visit(t, { path: "#sample=trio" });
    const permissions = ["clipboard-read", "clipboard-sanitized-write"];
    await page.browserContext().overridePermissions(new URL(site.url).origin, permissions);
    await sees(page, "cup");
    const input = page.locator(named("combobox", "Show only"));
    await input.fill("Cat");
    await page.keyboard.press("Enter");
    assert.deepEqual(await labels(page), ["cat"]);
    await input.fill("cup");
    await page.locator(button("Add")).click();
    assert.deepEqual((await labels(page)).sort(), ["cat", "cup"]);
    await input.fill("unicorn");
    await page.keyboard.press("Enter");
    assert.match(await page.$eval("#class-input", (one) => one.validationMessage), /No model/);
    await input.fill("");
    await page.locator(button("Remove cat")).click();
    assert.deepEqual(await labels(page), ["cup"]);
    assert.equal(await page.evaluate(() => document.activeElement.id), "class-input");
    // A model that has none of them.
    await choose(page, "#model-file", join(ROOT, "tests/e2e/fixtures/red-spot.onnx"));
    await page.waitForFunction(() => document.querySelector("#summary").textContent === "This model knows none of the chosen classes.", { timeout: 60_000 });
    await page.locator(button("Copy link")).click();
    await page.waitForFunction(() => document.querySelector("#copied").textContent === "Your model is not in the link.");
    await page.locator(button("Remove cup")).click();
    await page.waitForFunction(() => !document.querySelector("#summary").textContent.startsWith("This model"));
    await page.locator(named("combobox", "Model")).fill(DEFAULTS.model);
    await sees(page, "cat");
    assert.equal((await labels(page)).length, 3);
  });

  test("everything that was found can be taken along", async (t) => {
    const page = await visit(t, { ...CAT_PAGE, permissions: ["clipboard-read", "clipboard-sanitized-write"] });
    await seesCat(page);
    const format = page.locator(named("combobox", "Export as"));
    const saved = {};
    for (const kind of ["png", "json", "csv", "coco", "yolo"]) {
      await format.fill(kind);
      const { name, bytes } = await downloaded(page, temporary, () => page.locator(button("Save")).click());
      saved[name] = bytes;
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
    await format.fill("json");
    const width = () => page.$eval("#copy", (one) => one.getBoundingClientRect().width);
    const wide = await width();
    await page.locator(button("Copy")).click();
    await page.waitForSelector(button("Copied"), { visible: true });
    assert.equal(await width(), wide, "nothing moves");
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), saved["cat-boxes.json"].toString());
    // Safari lets a page copy during the click only, and lets it promise what it copies.
    await page.evaluate(() => {
      const { clipboard } = navigator;
      for (const name of ["write", "writeText"]) {
        const really = clipboard[name].bind(clipboard);
        const refused = () => Promise.reject(new DOMException("too late", "NotAllowedError"));
        clipboard[name] = (given) => (globalThis.event?.type === "click" ? really(given) : refused());
      }
    });
    const types = () => page.evaluate(async () => (await navigator.clipboard.read()).flatMap((one) => one.types));
    for (const [kind, type] of [["png", "image/png"], ["csv", "text/plain"]]) {
      await page.waitForSelector(button("Copy"), { visible: true });
      await format.fill(kind);
      await page.locator(button("Copy")).click();
      await page.waitForSelector(button("Copied"), { visible: true });
      assert.deepEqual(await types(), [type]);
    }
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), saved["cat-boxes.csv"].toString());
    assert.equal(await isVisible(page, "#problem"), false);
    // A picture is named by its file, not by a folder of this site.
    await page.locator(button("Two cups")).click();
    await looked(page, "Two cups");
    const { name, bytes } = await downloaded(page, temporary, () => page.locator(button("Save")).click());
    assert.deepEqual([name, bytes.toString().split(",")[10].split("\n")[1]], ["two-cups-boxes.csv", "two-cups.jpg"]);
  });

  test("a link restores what its maker saw", async (t) => {
    const page = await visit(t, { permissions: ["clipboard-read", "clipboard-sanitized-write"], path: "#sample=crew" });
    await sees(page, "person");
    await page.locator(named("slider", "Confidence threshold")).fill("41");
    await page.locator(named("combobox", "Input size")).fill("256");
    await page.locator(named("combobox", "Show only")).fill("person");
    await page.keyboard.press("Enter");
    await page.locator(button("Copy link")).click();
    await page.waitForSelector(button("Copied"), { visible: true });
    const link = await page.evaluate(() => navigator.clipboard.readText());
    assert.equal(link, `${site.url}#sample=crew&score=41&size=256&classes=person`);
    const other = await visit(t, { path: link.slice(site.url.length) });
    await looked(other, "Crew");
    assert.match(await text(other, "#build"), /^256 × 256/);
    assert.equal(await text(other, "#score-text"), "41 %");
    assert.equal((await other.$$(button("Remove person"))).length, 1);
    const compared = await visit(t, { path: "#sample=cat&compare=1&model2=small-int8&size2=256" });
    await compared.waitForFunction(() => /^256/.test(document.querySelector("#build-b").textContent), { timeout: 60_000 });
    await sees(compared, "cat", "#list-b");
    // A link that is followed on the open page.
    await other.evaluate(() => (location.hash = "#sample=cat&score=20"));
    await looked(other, "Cat");
    assert.equal(await text(other, "#score-text"), "20 %");
    // Back to where the address named nothing.
    const start = await visit(t);
    await looked(start, SAMPLES[0].name);
    await start.evaluate(() => (location.hash = "#sample=cat&score=20"));
    await looked(start, "Cat");
    await start.goBack();
    await looked(start, SAMPLES[0].name);
    assert.equal(await text(start, "#score-text"), "40 %");
    // A file has no address.
    await choose(other, "#file", CAT);
    await looked(other, "cat.jpg");
    await other.browserContext().overridePermissions(new URL(site.url).origin, ["clipboard-read", "clipboard-sanitized-write"]);
    await other.locator(button("Copy link")).click();
    const width = () => other.$eval("#share", (one) => one.getBoundingClientRect().width);
    const wide = await width();
    await other.waitForSelector(button("Copied"), { visible: true });
    assert.equal(await width(), wide, "nothing moves");
    assert.match(await text(other, "#copied"), /your picture or camera stays here/);
    // Where the clipboard is refused the address has the link, and what is shown stays.
    await other.evaluate(() => (navigator.clipboard.writeText = () => Promise.reject(new DOMException("no", "NotAllowedError"))));
    await other.waitForSelector(button("Copy link"), { visible: true });
    await other.locator(named("slider", "Confidence threshold")).fill("21");
    await other.locator(button("Copy link")).click();
    assert.match(await problem(other), /The link is in the address bar/);
    assert.equal(await other.evaluate(() => location.hash), "#score=21");
    await sleep(300);
    assert.equal(await attribute(other, "#picture", "alt"), "cat.jpg");
    // An address that a link names takes the place of a running video at once.
    await other.locator(button("Video: cat")).click();
    await seesCat(other);
    const { release } = site.hold("/samples/astronaut.jpg");
    t.after(() => site.unroute("/samples/astronaut.jpg"));
    await other.evaluate((url) => (location.hash = `#url=${encodeURIComponent(url)}`), `${site.url}samples/astronaut.jpg`);
    await other.waitForFunction(() => document.querySelector("#stage").dataset.showing === "nothing");
    release();
    await looked(other, "astronaut.jpg");
    // One that says nothing says that all is by default, whatever this browser remembers.
    await other.evaluate(() => (navigator.clipboard.writeText = (text) => (globalThis.copied = text)));
    await other.locator(button("Clear")).click();
    await other.locator(named("slider", "Confidence threshold")).fill("40");
    await other.locator(named("combobox", "Input size")).fill("0");
    await other.locator(button("Copy link")).click();
    await other.waitForFunction(() => globalThis.copied);
    const plain = await other.evaluate(() => globalThis.copied);
    await other.locator(named("slider", "Confidence threshold")).fill("70");
    const back = await other.browserContext().newPage();
    await back.goto(plain);
    assert.equal(await text(back, "#score-text"), "40 %");
    // A sample that there is no more: the first one.
    const gone = await visit(t, { path: "#sample=gone" });
    await looked(gone, SAMPLES[0].name);
  });
});
