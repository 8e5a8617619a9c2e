// The package as a page uses it, from its sources, in both browsers: every kind of picture, every kind of mistake.
import assert from "node:assert/strict";
import { copyFile, mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { launchChromium, launchFirefox } from "./lib/browsers.mjs";
import { ROOT, SITE, serve } from "./lib/server.mjs";
import { withTrap } from "./lib/trap.mjs";

const RECTANGLE = { x: 120, y: 40, w: 160, h: 90 };

/** Within a pixel and a half of the model's input, which is 160 wide, on a picture 400 wide. */
function assertBox(objects, { x, y, w, h }, message, tolerance = 4) {
  assert.equal(objects.length, 1, `${message}: ${JSON.stringify(objects)}`);
  const [{ label, classId, score, box }] = objects;
  assert.equal(label, "red spot", message);
  assert.equal(classId, 0, message);
  assert.ok(score > 0.8 && score <= 1, `${message}: score ${score}`);
  for (const [name, expected] of Object.entries({ x, y, width: w, height: h })) {
    assert.ok(Math.abs(box[name] - expected) < tolerance, `${message}: ${name} is ${box[name]}, not ${expected}`);
  }
}

for (const [name, launch] of Object.entries({ chromium: launchChromium, firefox: launchFirefox })) {
  describe(`package in ${name}`, () => {
    let site, foreign, browser, page;
    const errors = [];

    before(async () => {
      const blank = (_, response) =>
        response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>test</title><body>");
      site = await serve({ mounts: { ...SITE, "/lib/": "tests/e2e/lib", "/halved/": "pkg" } });
      foreign = await serve();
      site.route("/blank.html", blank);
      browser = await launch();
      page = await browser.newPage();
      // Firefox also calls what it notes about the network an error.
      const notes = /Cross-Origin Request Blocked|Loading Worker from|Failed to read data from the ReadableStream|Image corrupt/;
      page.on("pageerror", (error) => notes.test(String(error)) || errors.push(String(error)));
      await page.goto(`${site.url}blank.html`);
    });

    after(async () => {
      await browser?.close();
      await site?.close();
      await foreign?.close();
      assert.deepEqual(errors, [], "errors that nobody caught");
    });

    for (const worker of [true, false]) {
      test(`every kind of picture, worker: ${worker}`, async () => {
        const found = await page.evaluate(
          async ({ worker, rectangle }) => {
            const { Detector } = await import("/pkg/index.js");
            const { MODEL, blobOf, imageOf, spotCanvas, videoOf } = await import("/lib/in-page.js");
            const detector = await Detector.load({ model: MODEL, worker });
            const canvas = spotCanvas(400, 200, rectangle);
            const pixels = canvas.getContext("2d").getImageData(0, 0, 400, 200);
            const png = await blobOf(canvas);
            const offscreen = new OffscreenCanvas(400, 200);
            offscreen.getContext("2d").drawImage(canvas, 0, 0);
            // A view into a larger buffer: its offset and length count.
            const larger = new Uint8Array(pixels.data.length + 64).fill(255);
            const view = larger.subarray(32, 32 + pixels.data.length);
            view.set(pixels.data);
            const { video, stop } = await videoOf(canvas);
            const sources = {
              canvas,
              offscreen,
              "ImageData": pixels,
              "raw pixels": { data: view, width: 400, height: 200 },
              "ImageBitmap": await createImageBitmap(canvas),
              "VideoFrame": new VideoFrame(canvas, { timestamp: 0 }),
              "Blob": png,
              "File": new File([png], "spot.png", { type: "image/png" }),
              "image": await imageOf(png),
              "URL": new URL(URL.createObjectURL(png)),
              "SVG": new Blob(
                [
                  `<svg xmlns="http://www.w3.org/2000/svg" width="400" height="200"><rect width="400" height="200" fill="#777"/>
                  <rect x="${rectangle.x}" y="${rectangle.y}" width="${rectangle.w}" height="${rectangle.h}" fill="#f00"/></svg>`,
                ],
                { type: "image/svg+xml" },
              ),
              "string": URL.createObjectURL(await blobOf(canvas, "image/jpeg")),
              video,
            };
            const answers = {};
            for (const [kind, source] of Object.entries(sources)) answers[kind] = await detector.detect(source);
            // None was consumed.
            const twice = await Promise.all(Object.values(sources).map((source) => detector.detect(source)));
            stop();
            sources.VideoFrame.close();
            detector.dispose();
            return { answers, twice: twice.map((objects) => objects.length), labels: detector.labels };
          },
          { worker, rectangle: RECTANGLE },
        );
        for (const [kind, objects] of Object.entries(found.answers)) assertBox(objects, RECTANGLE, kind);
        assert.deepEqual(found.twice, Object.keys(found.answers).map(() => 1));
        assert.deepEqual(found.labels, ["red spot"]);
      });
    }

    test("orientation in a JPEG is applied, and boxes are in the pixels that are seen", async () => {
      const found = await page.evaluate(async (rectangle) => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, blobOf, imageOf, oriented, spotCanvas } = await import("/lib/in-page.js");
        const answers = [];
        for (const worker of [true, false]) {
          const detector = await Detector.load({ model: MODEL, worker });
          // 6: the stored picture is to be turned by 90° clockwise.
          const jpeg = await oriented(await blobOf(spotCanvas(400, 200, rectangle), "image/jpeg"), 6);
          const image = await imageOf(jpeg);
          answers.push([await detector.detect(jpeg), await detector.detect(image), image.naturalWidth]);
          detector.dispose();
        }
        return answers;
      }, RECTANGLE);
      const turned = { x: 200 - RECTANGLE.y - RECTANGLE.h, y: RECTANGLE.x, w: RECTANGLE.h, h: RECTANGLE.w };
      for (const [ofBlob, ofImage, naturalWidth] of found) {
        assert.equal(naturalWidth, 200);
        assertBox(ofBlob, turned, "blob");
        assertBox(ofImage, turned, "image element");
      }
    });

    test("an image with image-orientation: none is seen as it is shown", async () => {
      const found = await page.evaluate(async ({ rectangle, foreign }) => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, blobOf, failure, imageOf, oriented, spotCanvas } = await import("/lib/in-page.js");
        const answers = [];
        const changes = [];
        const jpeg = await blobOf(spotCanvas(400, 200, rectangle), "image/jpeg");
        // Larger than the canvas that it is drawn on; and as many pixels each way.
        const large = await blobOf(spotCanvas(6000, 3000, { x: 1800, y: 600, w: 2400, h: 1350 }), "image/jpeg");
        const square = await blobOf(spotCanvas(200, 200, { x: 20, y: 40, w: 120, h: 60 }), "image/jpeg");
        for (const worker of [true, false]) {
          const detector = await Detector.load({ model: MODEL, worker });
          for (const [name, blob] of Object.entries({ jpeg, large, square })) {
            for (const orientation of name === "jpeg" && !worker ? [1, 2, 3, 4, 5, 6, 7, 8] : [6]) {
              const image = await imageOf(await oriented(blob, orientation));
              image.style.imageOrientation = "none";
              document.body.append(image);
              const before = document.documentElement.outerHTML;
              answers.push([`${name}, ${orientation}`, await detector.detect(image)]);
              if (document.documentElement.outerHTML !== before) changes.push(name);
              image.remove();
            }
          }
          detector.dispose();
        }
        // One that has no such thing, and one that may not be read.
        const detector = await Detector.load({ model: MODEL, worker: false });
        const codes = [];
        for (const src of ["data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='40' height='20'/>", `${foreign}samples/cat.jpg`]) {
          const image = Object.assign(new Image(), { src, style: "image-orientation: none" });
          document.body.append(image);
          await image.decode();
          codes.push((await failure(detector.detect(image))).code);
          image.remove();
        }
        detector.dispose();
        return { answers, changes, codes };
      }, { rectangle: RECTANGLE, foreign: foreign.url });
      assert.deepEqual(found.changes, []);
      assert.deepEqual(found.codes, ["nothing thrown", "tainted"]);
      const rectangles = { jpeg: RECTANGLE, large: { x: 1800, y: 600, w: 2400, h: 1350 }, square: { x: 20, y: 40, w: 120, h: 60 } };
      for (const [what, objects] of found.answers) {
        const name = what.split(",")[0];
        assertBox(objects, rectangles[name], what, name === "large" ? 60 : 4);
      }
    });

    test("an image that is just loading is waited for, also when it showed another before", async () => {
      const found = await page.evaluate(async (rectangle) => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, blobOf, spotCanvas } = await import("/lib/in-page.js");
        const detector = await Detector.load({ model: MODEL });
        const image = document.body.appendChild(new Image());
        const answers = [];
        for (const x of [20, 120]) {
          image.src = URL.createObjectURL(await blobOf(spotCanvas(400, 200, { ...rectangle, x })));
          answers.push(await detector.detect(image));
        }
        image.src = "/nowhere.png";
        answers.push(await detector.detect(image).catch((error) => error.code));
        image.remove();
        detector.dispose();
        return answers;
      }, RECTANGLE);
      assertBox(found[0], { ...RECTANGLE, x: 20 }, "first");
      assertBox(found[1], { ...RECTANGLE, x: 120 }, "second");
      assert.equal(found[2], "invalid-image");
    });

    test("files of unusual kinds: CMYK, 16 bits, animated", async () => {
      const names = await readdir(join(ROOT, "tests/e2e/fixtures/pictures"));
      const found = await page.evaluate(async (names) => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, failure } = await import("/lib/in-page.js");
        const detector = await Detector.load({ model: MODEL });
        const answers = {};
        for (const name of names) {
          const url = `/fixtures/pictures/${name}`;
          const image = Object.assign(new Image(), { src: url });
          answers[name] = [await detector.detect(url), await detector.detect(image)];
        }
        // No browser of these has HEIC; that of an iPhone does.
        const heic = new Uint8Array([0, 0, 0, 24, ...new TextEncoder().encode("ftypheic\0\0\0\0mif1heic"), ...new Uint8Array(99)]);
        const { code } = await failure(detector.detect(new File([heic], "photo.heic", { type: "image/heic" })));
        detector.dispose();
        return { answers, code };
      }, names);
      assert.equal(names.length, 7);
      for (const [name, ways] of Object.entries(found.answers)) for (const objects of ways) assertBox(objects, RECTANGLE, name);
      assert.equal(found.code, "invalid-image");
    });

    test("an image whose source is taken away while it loads is not waited for", async () => {
      site.route("/never.jpg", () => {});
      const code = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, failure } = await import("/lib/in-page.js");
        const detector = await Detector.load({ model: MODEL });
        const image = Object.assign(new Image(), { src: "/never.jpg" });
        const call = failure(detector.detect(image));
        image.removeAttribute("src");
        const { code } = await call;
        detector.dispose();
        return code;
      });
      assert.equal(code, "not-loaded");
    });

    for (const worker of [true, false]) {
      test(`an image chosen by srcset is seen with all its pixels, worker: ${worker}`, async () => {
        const found = await page.evaluate(async (worker) => {
          const { Detector } = await import("/pkg/index.js");
          const detector = await Detector.load({ worker, scoreThreshold: 0.4 });
          const answers = [];
          for (const html of [
            `<img src="/samples/cat.jpg">`,
            `<img srcset="/samples/cat.jpg 451w" sizes="45.1px">`,
            `<img srcset="/samples/cat.jpg 10x">`,
            `<picture><source srcset="/samples/cat.jpg 10x"><img></picture>`,
          ]) {
            const image = Object.assign(document.createElement("div"), { innerHTML: html }).querySelector("img");
            await image.decode();
            answers.push({ width: image.naturalWidth, objects: await detector.detect(image) });
          }
          detector.dispose();
          return answers;
        }, worker);
        const [{ objects: [whole] }, ...dense] = found;
        assert.equal(whole.label, "cat");
        for (const { width, objects } of dense) {
          assert.equal(width, 45);
          assert.equal(objects.length, 1, "seen as it is in the file");
          assert.ok(Math.abs(objects[0].score - whole.score) < 0.02, `score ${objects[0].score}, not ${whole.score}`);
          assert.ok(Math.abs(objects[0].box.width - (whole.box.width * width) / 451) < 0.5, "boxes are in the natural size");
        }
      });

      test(`what is at hand is taken as it is at the call, worker: ${worker}`, async () => {
        const found = await page.evaluate(
          async ({ worker, rectangle }) => {
            const { Detector } = await import("/pkg/index.js");
            const { MODEL, blobOf, imageOf, spotCanvas } = await import("/lib/in-page.js");
            const detector = await Detector.load({ model: MODEL, worker });
            const canvas = spotCanvas(400, 200, rectangle);
            const pixels = canvas.getContext("2d").getImageData(0, 0, 400, 200);
            const bitmap = await createImageBitmap(canvas);
            const frame = new VideoFrame(canvas, { timestamp: 0 });
            const image = await imageOf(await blobOf(canvas));
            const calls = { canvas, pixels, bitmap, frame, image };
            for (const [name, source] of Object.entries(calls)) calls[name] = detector.detect(source);
            canvas.getContext("2d").clearRect(0, 0, 400, 200);
            pixels.data.fill(100);
            bitmap.close();
            frame.close();
            image.removeAttribute("src");
            const answers = {};
            for (const [name, call] of Object.entries(calls)) answers[name] = await call;
            detector.dispose();
            return answers;
          },
          { worker, rectangle: RECTANGLE },
        );
        for (const [name, objects] of Object.entries(found)) assertBox(objects, RECTANGLE, name);
      });

      test(`an SVG that does not say its size is seen at the size that the browser gives it, worker: ${worker}`, async () => {
        const found = await page.evaluate(async (worker) => {
          const { Detector } = await import("/pkg/index.js");
          const { MODEL, imageOf } = await import("/lib/in-page.js");
          const detector = await Detector.load({ model: MODEL, worker });
          const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 200"><rect width="400" height="200" fill="#777"/>
            <rect x="120" y="40" width="160" height="100" fill="#f00"/></svg>`;
          const blob = new Blob([svg], { type: "image/svg+xml" });
          const image = await imageOf(blob);
          const answers = [[image.naturalWidth, image.naturalHeight], await detector.detect(blob), await detector.detect(image)];
          detector.dispose();
          return answers;
        }, worker);
        const [size, ...answers] = found;
        assert.deepEqual(size, [300, 150]);
        for (const objects of answers) assertBox(objects, { x: 90, y: 30, w: 120, h: 75 }, "SVG");
      });

      test(`an SVG with HTML in it is seen, worker: ${worker}`, async () => {
        const found = await page.evaluate(async (worker) => {
          const { Detector } = await import("/pkg/index.js");
          const { MODEL } = await import("/lib/in-page.js");
          const detector = await Detector.load({ model: MODEL, worker });
          const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="100" height="80"><rect width="100" height="80" fill="#777"/>
            <foreignObject x="20" y="10" width="50" height="40"><div xmlns="http://www.w3.org/1999/xhtml" style="height: 40px; background: red"/></foreignObject></svg>`;
          const blob = new Blob([svg], { type: "image/svg+xml" });
          const answers = [await detector.detect(blob), await detector.detect(`data:image/svg+xml,${encodeURIComponent(svg)}`)];
          detector.dispose();
          return answers;
        }, worker);
        for (const objects of found) assertBox(objects, { x: 20, y: 10, w: 50, h: 40 }, "SVG");
      });

      test(`the times of the last picture are told, worker: ${worker}`, async () => {
        const found = await page.evaluate(async (worker) => {
          const { Detector } = await import("/pkg/index.js");
          const detector = await Detector.load({ worker });
          const none = detector.timing;
          const started = performance.now();
          await detector.detect("/samples/cat.jpg");
          const all = performance.now() - started;
          const { timing } = detector;
          await detector.detect(new ImageData(640, 480));
          const answers = { none, timing, all, pixels: detector.timing.pixels, frozen: Object.isFrozen(timing) };
          detector.dispose();
          return { ...answers, kept: detector.timing !== timing };
        }, worker);
        const { none, timing, all, pixels } = found;
        assert.equal(none, undefined);
        assert.ok(timing.network > 0 && timing.pixels >= 0 && timing.network + timing.pixels < all + 2, JSON.stringify(found));
        assert.ok(pixels < 2, `nothing is read of pixels, for ${pixels} ms`);
        assert.ok(found.frozen && found.kept);
      });
    }

    test("pictures far larger than the model, far longer than high, and of one pixel", async () => {
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, spotCanvas } = await import("/lib/in-page.js");
        const detector = await Detector.load({ model: MODEL });
        const answers = {
          large: await detector.detect(spotCanvas(4000, 3000, { x: 1000, y: 600, w: 1500, h: 900 })),
          long: await detector.detect(spotCanvas(16000, 10, { x: 0, y: 0, w: 10, h: 10 })),
          dot: await detector.detect(spotCanvas(1, 1, { x: 0, y: 0, w: 0, h: 0 })),
          dotPixels: await detector.detect({ data: new Uint8Array(4), width: 1, height: 1 }),
        };
        detector.dispose();
        return answers;
      });
      assertBox(found.large, { x: 1000, y: 600, w: 1500, h: 900 }, "large", 40);
      assert.deepEqual([found.long, found.dot, found.dotPixels], [[], [], []]);
    });

    // Firefox 153 has neither.
    test("pixels in other colours, or as floats, are seen in those of the screen", { skip: name === "firefox" }, async () => {
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const detector = await Detector.load();
        const image = new Image();
        image.src = "/samples/cat.jpg";
        await image.decode();
        const { naturalWidth: width, naturalHeight: height } = image;
        const context = (colorSpace) => new OffscreenCanvas(width, height).getContext("2d", { colorSpace, willReadFrequently: true });
        const bright = context("srgb");
        bright.filter = "saturate(9)"; // Colours that have other numbers in another space.
        bright.drawImage(image, 0, 0);
        const pixels = (colorSpace, format) => {
          const copy = context(colorSpace);
          copy.drawImage(bright.canvas, 0, 0);
          return copy.getImageData(0, 0, width, height, format);
        };
        const sources = [pixels("srgb"), pixels("display-p3"), pixels("srgb", { pixelFormat: "rgba-float16" })];
        const answers = [];
        for (const source of sources) answers.push(await detector.detect(source));
        detector.dispose();
        return { answers, kinds: sources.map(({ data, colorSpace }) => `${data.constructor.name} ${colorSpace}`) };
      });
      assert.equal(found.kinds[1], "Uint8ClampedArray display-p3");
      const [standard, ...others] = found.answers.map(([cat]) => cat.score);
      // Colours are rounded on their way; taken for others, p3 gives 0.03 more.
      for (const [at, score] of others.entries()) {
        assert.ok(Math.abs(score - standard) < 0.015, `${found.kinds[at + 1]}: ${score}, not ${standard}`);
      }
    });

    test("transparent pixels hide nothing and show nothing", async () => {
      const found = await page.evaluate(async (rectangle) => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, blobOf, spotCanvas } = await import("/lib/in-page.js");
        const detector = await Detector.load({ model: MODEL });
        const canvas = spotCanvas(400, 200, rectangle);
        const context = canvas.getContext("2d");
        const opaque = context.getImageData(0, 0, 400, 200);
        const red = { data: new Uint8Array(opaque.data), width: 400, height: 200 };
        for (let at = 3; at < red.data.length; at += 4) red.data[at] = 0;
        context.clearRect(0, 0, 400, 200);
        context.fillStyle = "red";
        context.fillRect(rectangle.x, rectangle.y, rectangle.w, rectangle.h);
        const answers = { invisible: await detector.detect(red), around: await detector.detect(await blobOf(canvas)) };
        detector.dispose();
        return answers;
      }, RECTANGLE);
      assert.deepEqual(found.invisible, []);
      assertBox(found.around, RECTANGLE, "opaque on transparent");
    });

    test("what is transferred is not copied, and what is not survives", async () => {
      const lengths = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL } = await import("/lib/in-page.js");
        const detector = await Detector.load({ model: MODEL });
        const raw = () => ({ data: new Uint8ClampedArray(40 * 30 * 4), width: 40, height: 30 });
        const [kept, given] = [raw(), raw()];
        const [keptBitmap, givenBitmap] = await Promise.all([0, 0].map(() => createImageBitmap(new ImageData(8, 8))));
        await detector.detect(kept);
        await detector.detect(given, { transfer: true });
        await detector.detect(keptBitmap);
        await detector.detect(givenBitmap, { transfer: true });
        detector.dispose();
        return [kept.data.length, given.data.length, keptBitmap.width, givenBitmap.width];
      });
      assert.deepEqual(lengths, [4800, 0, 8, 0]);
    });

    for (const worker of [true, false]) {
      test(`what is transferred may be closed or taken away right after the call, worker: ${worker}`, async () => {
        const found = await page.evaluate(
          async ({ worker, rectangle }) => {
            const { Detector } = await import("/pkg/index.js");
            const { MODEL, spotCanvas } = await import("/lib/in-page.js");
            const detector = await Detector.load({ model: MODEL, worker });
            const canvas = spotCanvas(400, 200, rectangle);
            const bitmap = await createImageBitmap(canvas);
            const pixels = canvas.getContext("2d").getImageData(0, 0, 400, 200);
            const calls = { bitmap: detector.detect(bitmap, { transfer: true }) };
            bitmap.close();
            if (typeof VideoFrame === "function") {
              const frame = new VideoFrame(canvas, { timestamp: 0 });
              calls.frame = detector.detect(frame, { transfer: true });
              frame.close();
            }
            calls.pixels = detector.detect(pixels, { transfer: true });
            if (pixels.data.length) pixels.data.fill(0);
            const answers = {};
            for (const [name, call] of Object.entries(calls)) answers[name] = await call;
            detector.dispose();
            return answers;
          },
          { worker, rectangle: RECTANGLE },
        );
        for (const [name, objects] of Object.entries(found)) assertBox(objects, RECTANGLE, name);
      });
    }

    test("calls made at once wait their turn, each with the thresholds of its moment", async () => {
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, spotCanvas } = await import("/lib/in-page.js");
        const detector = await Detector.load({ model: MODEL });
        const at = [10, 60, 110, 160, 210];
        const calls = at.map((x) => detector.detect(spotCanvas(400, 200, { x, y: 50, w: 100, h: 60 })));
        detector.scoreThreshold = 0.95; // Above what the model ever says.
        calls.push(detector.detect(spotCanvas(400, 200, { x: 10, y: 50, w: 100, h: 60 })));
        detector.scoreThreshold = 0.2;
        detector.maxDetections = 5;
        detector.iouThreshold = 1;
        detector.classes = ["red spot"];
        calls.push(detector.detect(spotCanvas(400, 200, { x: 300, y: 50, w: 90, h: 60 })));
        const answers = await Promise.all(calls);
        const settings = [detector.scoreThreshold, detector.maxDetections, detector.iouThreshold, detector.classes];
        detector.dispose();
        return { answers, settings };
      });
      [10, 60, 110, 160, 210].forEach((x, index) => {
        assertBox(found.answers[index], { x, y: 50, w: 100, h: 60 }, `call ${index}`);
      });
      assert.deepEqual(found.answers[5], []);
      assertBox(found.answers[6], { x: 300, y: 50, w: 90, h: 60 }, "last call");
      assert.deepEqual(found.settings, [0.2, 5, 1, ["red spot"]]);
    });

    test("the input size can be chosen where the model allows, and says so where not", async () => {
      const refused = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, failure } = await import("/lib/in-page.js");
        return Promise.all(
          [33, 0, 1.5, "big", { width: 64 }, null].map((inputSize) => failure(Detector.load({ model: MODEL, inputSize }))),
        );
      });
      for (const { code, message } of refused) assert.equal(code, "invalid-option", message);
    });

    test("pictures that are none, or not yet", async () => {
      foreign.route("/plain.jpg", async (_, response) => {
        response.writeHead(200, { "content-type": "image/jpeg" }).end(await readFile(join(ROOT, "data/samples/cat.jpg")));
      });
      const codes = await page.evaluate(async (foreignUrl) => {
        const { Detector, MicroYoloError } = await import("/pkg/index.js");
        const { MODEL, failure } = await import("/lib/in-page.js");
        const answers = {};
        const foreignImage = new Image();
        foreignImage.src = `${foreignUrl}plain.jpg`;
        await foreignImage.decode();
        const tainted = document.createElement("canvas");
        tainted.getContext("2d").drawImage(foreignImage, 0, 0);
        const broken = new Image();
        broken.src = "/nowhere.png";
        const lazy = Object.assign(new Image(), { loading: "lazy", src: "/samples/cat.jpg?lazy" });
        const closed = await createImageBitmap(new ImageData(2, 2));
        closed.close();
        const failed = document.createElement("video");
        failed.src = "/samples/cat.jpg";
        await new Promise((resolve) => failed.addEventListener("error", resolve));
        // Firefox knows the size of these two.
        const webp = URL.createObjectURL((await (await fetch("/fixtures/pictures/animated.webp")).blob()).slice(0, 500, "image/webp"));
        const [cut, unturned] = await Promise.all(
          ["from-image", "none"].map(async (imageOrientation) => {
            const image = new Image();
            await new Promise((resolve) => (image.onload = image.onerror = resolve, image.src = webp));
            image.style.imageOrientation = imageOrientation;
            document.body.append(image);
            return image;
          }),
        );
        const huge = Object.assign(document.createElement("canvas"), { width: 70_000, height: 10 });
        huge.getContext("2d").fillRect(0, 0, 70_000, 10);
        for (const worker of [true, false]) {
          const detector = await Detector.load({ model: MODEL, worker });
          const cases = {
            "video without source": [document.createElement("video"), "not-loaded"],
            "video that is none": [failed, "invalid-image"],
            "image without source": [new Image(), "not-loaded"],
            "lazy image off screen": [lazy, "not-loaded"],
            "broken image": [broken, "invalid-image"],
            "tainted canvas": [tainted, "tainted"],
            "foreign image": [foreignImage, "tainted"],
            "empty canvas": [Object.assign(document.createElement("canvas"), { width: 0 }), "invalid-image"],
            "empty offscreen canvas": [new OffscreenCanvas(0, 0), "invalid-image"],
            "closed bitmap": [closed, "invalid-image"],
            "canvas that cannot be had": [huge, "image-too-large"],
            "offscreen canvas that cannot be had": [new OffscreenCanvas(70_000, 10), "image-too-large"],
            "cut image": [cut, "invalid-image"],
            "cut image that is not turned": [unturned, "invalid-image"],
            "text as a file": [new Blob(["no picture"]), "invalid-image"],
            "truncated picture": [(await (await fetch("/samples/cat.jpg")).blob()).slice(0, 100), "invalid-image"],
            "0 x 0 pixels": [{ data: new Uint8Array(0), width: 0, height: 0 }, "invalid-image"],
            "wrong length": [{ data: new Uint8Array(15), width: 2, height: 2 }, "invalid-image"],
            "floats": [{ data: new Float32Array(16), width: 2, height: 2 }, "invalid-image"],
            "NaN width": [{ data: new Uint8Array(16), width: NaN, height: 2 }, "invalid-image"],
            "20,000 x 10 pixels": [{ data: new Uint8Array(800_000), width: 20_000, height: 10 }, "image-too-large"],
            "missing address": ["/nowhere.png", "network"],
            "foreign address": [`${foreignUrl}plain.jpg`, "network"],
            "page as picture": ["/blank.html", "invalid-image"],
            "text that is no address": ["http://[", "invalid-source"],
            "number": [42, "invalid-source"],
            "nothing": [undefined, "invalid-source"],
            "null": [null, "invalid-source"],
            "element": [document.body, "invalid-source"],
          };
          for (const [name, [source, expected]] of Object.entries(cases)) {
            const refused = await failure(detector.detect(source));
            answers[`${name}, worker: ${worker}`] = [refused.code, expected, refused.name, refused.message];
          }
          // And none of it did any harm.
          answers[`after all, worker: ${worker}`] = [(await detector.detect(new ImageData(9, 9))).length, 0, "MicroYoloError"];
          const clear = Object.assign(document.createElement("canvas"), { width: 9, height: 9 });
          answers[`transparent, worker: ${worker}`] = [(await detector.detect(clear)).length, 0, "MicroYoloError"];
          // Chromium refuses it, Firefox takes it for a transparent one.
          const early = await detector.detect(new OffscreenCanvas(9, 9)).catch(({ code }) => code);
          answers[`no context, worker: ${worker}`] = [early.length ? early : "invalid-image", "invalid-image", "MicroYoloError"];
          detector.dispose();
        }
        cut.remove();
        unturned.remove();
        return { answers, named: new MicroYoloError("network", "x") instanceof Error };
      }, foreign.url);
      assert.ok(codes.named);
      for (const [name, [code, expected, className, message]] of Object.entries(codes.answers)) {
        assert.equal(code, expected, `${name}: ${message}`);
        assert.equal(className, "MicroYoloError", name);
      }
    });

    test("what a picture is instead is said", async () => {
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, failure } = await import("/lib/in-page.js");
        const detector = await Detector.load({ model: MODEL });
        const template = document.createElement("template");
        template.innerHTML = `<img src="/samples/cat.jpg">`;
        const film = await (await fetch("/fixtures/cat.mp4")).blob();
        const given = {
          empty: new Blob([]),
          photo: new File([new Uint8Array(99)], "IMG_1.HEIC", { type: "image/heic" }),
          film,
          "its address": "/fixtures/cat.mp4",
          template: template.content.querySelector("img"),
        };
        const answers = {};
        for (const [name, source] of Object.entries(given)) {
          const { code, message } = await failure(detector.detect(source));
          answers[name] = `${code}: ${message}`;
        }
        detector.dispose();
        return answers;
      });
      assert.deepEqual(found, {
        empty: "invalid-image: this picture is empty: its file has 0 bytes",
        photo: "invalid-image: the browser cannot decode this picture (image/heic)",
        film: "invalid-image: this picture is a video (video/mp4): give a <video> that shows it",
        "its address": "invalid-image: the picture /fixtures/cat.mp4 is a video (video/mp4): give a <video> that shows it",
        template: "not-loaded: the image element has no picture; its document loads none, so insert it in the page",
      });
    });

    test("a file that was removed after it was chosen is said to be", async (t) => {
      const folder = await mkdtemp(join(tmpdir(), "micro-yolo-"));
      t.after(() => rm(folder, { recursive: true, force: true }));
      // Chromium tells the size of a removed file by whether it was asked before.
      const paths = ["asked.jpg", "unasked.jpg"].map((name) => join(folder, name));
      for (const path of paths) await copyFile(join(ROOT, "data/samples/cat.jpg"), path);
      const input = await page.evaluateHandle(() => {
        const input = Object.assign(document.createElement("input"), { type: "file", multiple: true });
        return document.body.appendChild(input);
      });
      await input.uploadFile(...paths);
      await input.evaluate(({ files }) => files[0].size);
      await Promise.all(paths.map((path) => rm(path)));
      const found = await input.evaluate(async (input) => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, failure } = await import("/lib/in-page.js");
        const said = [];
        for (const worker of [true, false]) {
          const detector = await Detector.load({ model: MODEL, worker });
          for (const file of input.files) said.push(await failure(detector.detect(file)));
          detector.dispose();
        }
        input.remove();
        return said;
      });
      assert.equal(found.length, 4);
      for (const { code, message } of found) {
        assert.equal(code, "invalid-image");
        assert.match(message, /cannot be read: its file was changed or removed/);
      }
    });

    test("a picture that is cut off is looked at as it is shown, or refused where it is not shown", async () => {
      const whole = await readFile(join(ROOT, "data/samples/cat.jpg"));
      site.route("/cut.jpg", (_, response) => {
        response.writeHead(200, { "content-type": "image/jpeg" }).end(whole.subarray(0, whole.length / 2));
      });
      site.route("/lost.jpg", (_, response) => {
        response.writeHead(200, { "content-type": "image/jpeg", "content-length": whole.length }).write(whole.subarray(0, whole.length / 2));
        setTimeout(() => response.destroy(), 300);
      });
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const detector = await Detector.load();
        const image = async (src) => {
          const image = new Image();
          await new Promise((resolve) => (image.onload = image.onerror = resolve, image.src = src));
          return image;
        };
        /** What is on the screen, as pixels: nothing is decoded again. */
        const seen = (image) => {
          const context = Object.assign(document.createElement("canvas"), { width: image.naturalWidth, height: image.naturalHeight }).getContext("2d");
          context.drawImage(image, 0, 0);
          return context.getImageData(0, 0, image.naturalWidth, image.naturalHeight);
        };
        const said = (source) =>
          detector.detect(source).then(
            (objects) => objects.map(({ label, score }) => `${label} ${score.toFixed(1)}`).join(),
            ({ code }) => code,
          );
        const blobOf = async (url) => await (await fetch(url)).blob();
        const cat = await image("/samples/cat.jpg");
        const half = await image("/cut.jpg?image");
        const canvas = Object.assign(document.createElement("canvas"), { width: 451, height: 300 });
        canvas.getContext("2d").drawImage(cat, 0, 0);
        const png = await new Promise((resolve) => canvas.toBlob(resolve));
        const cutPng = png.slice(0, png.size / 2, "image/png");
        const halfPng = await image(URL.createObjectURL(cutPng));
        const webp = (await blobOf("/fixtures/pictures/animated.webp")).slice(0, 500, "image/webp");
        const noWebp = URL.createObjectURL(webp);
        const lost = await image("/lost.jpg?image");
        const answers = {
          whole: await said(cat),
          jpeg: [await said(seen(half)), await said(half), await said(await blobOf("/cut.jpg")), await said("/cut.jpg")],
          png: [await said(seen(halfPng)), await said(halfPng), await said(cutPng), await said(URL.createObjectURL(cutPng))],
          // Nothing is shown of it.
          webp: [await said(await image(noWebp)), await said(webp), await said(noWebp)],
          lost: [lost.naturalWidth ? await said(seen(lost)) : "invalid-image", await said(lost)],
          "lost address": await said("/lost.jpg"),
        };
        detector.dispose();
        return answers;
      });
      assert.equal(found.whole, "cat 0.9");
      for (const kind of ["jpeg", "png"]) {
        const [seen, ...others] = found[kind];
        assert.match(seen, /^(\w+ 0\.\d,?)*$/, kind);
        for (const one of others) assert.equal(one, seen, kind);
      }
      assert.match(found.jpeg[0], /^cat 0\.[5-8]/);
      assert.deepEqual(found.webp, ["invalid-image", "invalid-image", "invalid-image"]);
      assert.equal(found.lost[1], found.lost[0], "Firefox shows what came in, Chromium nothing");
      assert.equal(found["lost address"], "network");
    });

    for (const worker of [true, false]) {
      test(`a picture of which nothing is left is an error, and one of one colour is empty, worker: ${worker}`, async () => {
        const found = await page.evaluate(async (worker) => {
          const { Detector } = await import("/pkg/index.js");
          const { MODEL, blobOf, spotCanvas } = await import("/lib/in-page.js");
          const detector = await Detector.load({ model: MODEL, worker });
          const image = (blob, then = () => {}) =>
            new Promise((resolve) => {
              const image = new Image();
              image.onload = image.onerror = () => resolve(image, then(image.src));
              image.src = URL.createObjectURL(blob);
            });
          const said = async (source) => detector.detect(await source).then((objects) => objects.length, ({ code }) => code);
          const all = async (blob) => [
            await said(blob),
            await said(URL.createObjectURL(blob)),
            await said(image(blob)),
            // Nobody can fetch its file any more.
            await said(image(blob, URL.revokeObjectURL)),
          ].join();
          const spot = spotCanvas(400, 200, { x: 120, y: 40, w: 160, h: 90 });
          const large = spotCanvas(3001, 2003, { x: 120, y: 40, w: 160, h: 90 });
          const fixture = async (name) => await (await fetch(`/fixtures/pictures/${name}`)).blob();
          /** Where the pixels begin. */
          const pixelsAt = {
            "image/png": (bytes) => bytes.indexOf("IDAT") + 6,
            "image/jpeg": (bytes) => bytes.indexOf("\xff\xda") + 14,
            "image/gif": () => 61,
            "image/webp": (bytes) => bytes.indexOf("ANMF") + 30,
            "image/avif": (bytes) => bytes.indexOf("mdat") + 8,
          };
          const files = { png: await blobOf(spot), jpeg: await blobOf(spot, "image/jpeg"), "large jpeg": await blobOf(large, "image/jpeg") };
          for (const name of ["cmyk.jpg", "palette.png", "progressive.jpg", "sixteen-bit.png", "animated.gif", "animated.webp", "spot.avif"]) {
            files[name] = await fixture(name);
          }
          const [left, overwritten] = [{}, {}];
          for (const [name, blob] of Object.entries(files)) {
            const bytes = new Uint8Array(await blob.arrayBuffer());
            const at = pixelsAt[blob.type](Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
            left[name] = await all(blob.slice(0, at, blob.type));
            // A JPEG of zeros has pixels.
            if (blob.type === "image/png") overwritten[name] = await all(new Blob([bytes.fill(0, at)], { type: blob.type }));
          }
          const whole = {};
          for (const [name, paint] of Object.entries({ black: "#000", grey: "rgb(114 114 114)", clear: "transparent" })) {
            const context = Object.assign(document.createElement("canvas"), { width: 40, height: 30 }).getContext("2d");
            context.fillStyle = paint;
            context.fillRect(0, 0, 40, 30);
            for (const type of ["image/png", "image/jpeg", "image/webp"]) {
              const blob = await blobOf(context.canvas, type);
              whole[`${name}, ${type}`] = [await said(blob), await said(URL.createObjectURL(blob)), await said(image(blob))].join();
            }
          }
          for (const size of ["", 'width="40" height="20"', 'viewBox="0 0 40 20"']) {
            const blob = new Blob([`<svg xmlns="http://www.w3.org/2000/svg" ${size}/>`], { type: "image/svg+xml" });
            whole[`svg ${size}`] = [await said(blob), await said(URL.createObjectURL(blob)), await said(image(blob))].join();
          }
          detector.dispose();
          return { left, overwritten, whole };
        }, worker);
        const answers = (expected, given) => Object.fromEntries(Object.keys(given).map((name) => [name, expected]));
        const refused = "invalid-image,invalid-image,invalid-image,invalid-image";
        assert.deepEqual(found.left, answers(refused, found.left));
        assert.deepEqual(found.overwritten, answers(refused, found.overwritten));
        assert.deepEqual(found.whole, answers("0,0,0", found.whole));
      });
    }

    test("a canvas that cannot be drawn on is said to be one", async () => {
      const found = await page.evaluate(async () => {
        const { drawObjects } = await import("/pkg/draw.js");
        const { failure } = await import("/lib/in-page.js");
        const canvas = (kind) => {
          const one = Object.assign(document.createElement("canvas"), { width: 40, height: 30 });
          if (kind) one.getContext(kind);
          return one;
        };
        const transferred = canvas();
        transferred.transferControlToOffscreen();
        const offscreen = new OffscreenCanvas(40, 30);
        offscreen.getContext("bitmaprenderer");
        const size = { width: 40, height: 30 };
        const webgl = canvas("webgl2");
        // Where there is no GPU, a canvas may have no WebGL.
        const wrong = { ...(webgl.getContext("webgl2") && { webgl }), bitmap: canvas("bitmaprenderer"), transferred, offscreen };
        Object.assign(wrong, { nothing: null, context: canvas("2d").getContext("2d") });
        const answers = {};
        for (const [name, one] of Object.entries(wrong)) answers[name] = await failure(() => drawObjects(one, [], size));
        answers["no await"] = await failure(() => drawObjects(canvas(), Promise.resolve([]), size));
        answers["no size"] = await failure(() => drawObjects(canvas(), []));
        return { answers, sizes: [webgl, wrong.bitmap, offscreen].map(({ width, height }) => `${width} x ${height}`) };
      });
      for (const [name, { code, message }] of Object.entries(found.answers)) assert.equal(code, "invalid-option", `${name}: ${message}`);
      for (const name of ["bitmap", "offscreen"]) assert.match(found.answers[name].message, /context of another kind/);
      assert.match(found.answers.transferred.message, /transferred/);
      assert.match(found.answers["no await"].message, /not Promise: await detect\(\)/);
      assert.deepEqual(found.sizes, ["40 x 30", "40 x 30", "40 x 30"]);
    });

    test("options that are wrong", async () => {
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, failure } = await import("/lib/in-page.js");
        const wrong = [
          { scoreThreshold: NaN },
          { scoreThreshold: -0.1 },
          { scoreThreshold: "0.5" },
          { iouThreshold: NaN },
          { iouThreshold: 1.01 },
          { maxDetections: 0 },
          { maxDetections: 1.5 },
          { maxDetections: -Infinity },
          { classes: "cat" },
          { classes: [null] },
          { classes: ["unicorn"] },
          { classes: [1] },
          { model: 7 },
          { wasm: {} },
          { model: "http://[" },
          { wasm: 0 },
          { signal: {} },
          { signal: new AbortController() },
          { worker: "false" },
          { onProgress: 5 },
        ];
        const answers = [];
        for (const options of wrong) answers.push((await failure(Detector.load({ model: MODEL, ...options }))).code);
        const detector = await Detector.load({ model: MODEL });
        for (const [option, value] of [["scoreThreshold", NaN], ["iouThreshold", 2], ["maxDetections", 0], ["classes", ["dog"]]]) {
          answers.push((await failure(() => (detector[option] = value))).code);
        }
        answers.push((await failure(() => new Detector())).code);
        for (const signal of [{}, new AbortController()]) {
          answers.push((await failure(detector.detect(new ImageData(4, 4), { signal }))).code);
          answers.push((await failure(() => detector.watch(document.createElement("video"), { signal }))).code);
        }
        const kept = [detector.scoreThreshold, detector.iouThreshold, detector.maxDetections, detector.classes === undefined];
        detector.dispose();
        return { answers, kept };
      });
      assert.deepEqual(found.answers, found.answers.map(() => "invalid-option"));
      assert.deepEqual(found.kept, [0.25, 0.45, 100, true]);
    });

    for (const worker of [true, false]) {
      test(`a URL that loads does not hold up what is ready, worker: ${worker}`, async () => {
        const held = [];
        site.route("/held.png", (_, response) => held.push(response));
        site.route("/release", async (request, response) => {
          const png = Buffer.concat(await request.toArray());
          for (const one of held) one.writeHead(200, { "content-type": "image/png" }).end(png);
          response.end();
        });
        const found = await page.evaluate(
          async ({ worker, rectangle }) => {
            const { Detector } = await import("/pkg/index.js");
            const { MODEL, blobOf, spotCanvas } = await import("/lib/in-page.js");
            const detector = await Detector.load({ model: MODEL, worker });
            const answers = [];
            const call = (name, source) => detector.detect(source).then((objects) => answers.push([name, objects.length]));
            const canvas = spotCanvas(400, 200, rectangle);
            const first = call("URL", "/held.png");
            await call("canvas", canvas);
            await call("pixels", new ImageData(8, 8));
            await fetch("/release", { method: "POST", body: await blobOf(canvas) });
            await first;
            detector.dispose();
            return answers;
          },
          { worker, rectangle: RECTANGLE },
        );
        assert.deepEqual(found, [["canvas", 1], ["pixels", 0], ["URL", 1]]);
      });
    }

    test("after dispose() every call says so, and those under way end", async () => {
      let hanging = 0;
      for (const path of ["/hang.png", "/hang.jpg"]) {
        site.route(path, (_, response) => {
          hanging += 1;
          response.once("close", () => (hanging -= 1));
        });
      }
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, failure, sleep, spotCanvas, videoOf } = await import("/lib/in-page.js");
        const answers = [];
        for (const worker of [true, false]) {
          const detector = await Detector.load({ model: MODEL, worker });
          const { video, stop } = await videoOf(spotCanvas(64, 64, { x: 8, y: 8, w: 30, h: 30 }));
          // A frame that never comes, of a server and of a video.
          const image = Object.assign(new Image(), { src: "/hang.jpg" });
          const seeking = document.createElement("video");
          Object.defineProperty(seeking, "seeking", { value: true });
          const { signal } = new AbortController();
          const waiting = [["/hang.png"], ["/hang.png", { signal }], [image], [seeking]].map((one) => failure(detector.detect(...one)));
          const loop = failure(async () => {
            for await (const _ of detector.watch(video));
          });
          await detector.detect(video);
          detector.dispose();
          detector.dispose();
          detector[Symbol.dispose ?? "dispose"]();
          answers.push((await loop).code);
          for (const call of waiting) answers.push(await Promise.race([call.then(({ code }) => code), sleep(3000).then(() => "hangs")]));
          image.removeAttribute("src");
          answers.push((await failure(detector.detect(new ImageData(4, 4)))).code);
          answers.push((await failure(detector.watch(video).next())).code);
          stop();
        }
        return answers;
      });
      assert.deepEqual(found, Array(14).fill("disposed"));
      for (let tries = 0; hanging && tries < 100; tries += 1) await new Promise((resolve) => setTimeout(resolve, 20));
      assert.equal(hanging, 0, "downloads that go on for nobody");
    });

    for (const worker of [true, undefined]) {
      test(`a load is given up also while it is asked why no worker started, worker: ${worker}`, async () => {
        let asked = 0;
        site.route("/halved/worker.js", (_, response) => {
          asked += 1;
          if (asked === 1) response.writeHead(404).end(); // The second time it is asked why: no answer.
        });
        await page.goto(`${site.url}blank.html`);
        const found = await page.evaluate(async (worker) => {
          const { Detector } = await import("/halved/index.js");
          const { MODEL, failure, sleep } = await import("/lib/in-page.js");
          const controller = new AbortController();
          const { fetch } = globalThis;
          let aborted;
          globalThis.fetch = async (...asked) => {
            if (!String(asked[0]).endsWith("/worker.js")) return fetch(...asked);
            void sleep(50).then(() => {
              aborted = performance.now();
              controller.abort("enough");
            });
            return fetch(...asked);
          };
          const { code } = await failure(Detector.load({ model: MODEL, worker, signal: controller.signal }));
          const took = performance.now() - aborted;
          globalThis.fetch = fetch;
          return { code, took };
        }, worker);
        site.unroute("/halved/worker.js");
        assert.equal(found.code, "aborted");
        assert.ok(found.took < 1000, `${found.took} ms`); // It is asked for 3 s.
      });
    }

    test("a load can be given up, and one that failed does not stand in the way of the next", async () => {
      const model = await readFile(join(ROOT, "tests/e2e/fixtures/red-spot.onnx"));
      const hanging = [];
      site.route("/slow.onnx", (_, response) => {
        hanging.push(response);
        response.writeHead(200, { "content-length": model.length });
        response.write(model.subarray(0, 500));
      });
      site.route("/cut.onnx", (_, response) => {
        response.writeHead(200, { "content-length": model.length });
        response.write(model.subarray(0, 500), () => response.destroy());
      });
      site.route("/truncated.onnx", (_, response) => response.end(model.subarray(0, 2000)));
      site.route("/empty.onnx", (_, response) => response.end());
      site.route("/garbage.wasm", (_, response) => response.end("<!doctype html>"));
      let broken = true;
      site.route("/flaky.onnx", (_, response) => {
        if (broken) response.writeHead(503).end();
        else response.end(model);
      });
      const load = (options) =>
        page.evaluate(async (options) => {
          const { abortAfter, from = "/pkg/", ...rest } = options;
          const { Detector } = await import(`${from}index.js`);
          const { MODEL, failure } = await import("/lib/in-page.js");
          const signal = abortAfter === undefined ? undefined : AbortSignal.timeout(abortAfter);
          if (abortAfter === 0) await new Promise((resolve) => signal.addEventListener("abort", resolve));
          return failure(async () => {
            const detector = await Detector.load({ model: MODEL, signal, ...rest });
            detector.dispose();
          });
        }, options);

      assert.equal((await load({ abortAfter: 0 })).code, "aborted");
      const asked = site.requests.length;
      assert.equal((await load({ model: "/slow.onnx", abortAfter: 300 })).code, "aborted");
      assert.ok(site.requests.slice(asked).includes("/slow.onnx"));
      // The browser let go of the connection: nothing goes on in the background.
      await new Promise((resolve) => (hanging[0].closed ? resolve() : hanging[0].once("close", resolve)));

      assert.equal((await load({ model: "/cut.onnx" })).code, "network");
      assert.equal((await load({ model: "/nowhere.onnx" })).code, "network");
      assert.equal((await load({ wasm: "/nowhere.wasm" })).code, "network");
      assert.equal((await load({ model: "http://127.0.0.1:9/x.onnx" })).code, "network");
      site.route("/halved/engine-plain.js", (_, response) => response.writeHead(503, { "content-type": "text/javascript" }).end());
      assert.equal((await load({ from: "/halved/", worker: false })).code, "network");
      assert.equal((await load({ wasm: "/garbage.wasm" })).code, "invalid-engine");
      assert.equal((await load({ model: "/truncated.onnx" })).code, "invalid-model");
      assert.equal((await load({ model: "/empty.onnx" })).code, "invalid-model");
      assert.equal((await load({ model: "/blank.html" })).code, "invalid-model");
      assert.equal((await load({ model: "/flaky.onnx" })).code, "network");
      broken = false;
      assert.equal((await load({ model: "/flaky.onnx" })).code, "nothing thrown");
    });

    test("loads at the same time share their downloads; progress counts every byte", async () => {
      await page.goto(`${site.url}blank.html`);
      const asked = site.requests.length;
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, failure, spotCanvas } = await import("/lib/in-page.js");
        const seen = [];
        const controller = new AbortController();
        const loads = [
          Detector.load({ model: MODEL, onProgress: (progress) => seen.push(progress) }),
          Detector.load({ model: MODEL }),
          failure(Detector.load({ model: MODEL, signal: controller.signal })),
        ];
        controller.abort("changed my mind"); // Giving up one does not stop the others.
        const [first, second, aborted] = await Promise.all(loads);
        const answers = [await first.detect(spotCanvas(40, 40, { x: 0, y: 0, w: 20, h: 20 }))];
        first.dispose();
        answers.push(await second.detect(spotCanvas(40, 40, { x: 0, y: 0, w: 20, h: 20 })));
        second.dispose();
        return { seen, aborted: aborted.code, found: answers.map((one) => one.length) };
      });
      assert.deepEqual(found.found, [1, 1]);
      assert.equal(found.aborted, "aborted");
      const requests = site.requests.slice(asked);
      const engineFiles = requests.filter((path) => path.endsWith(".wasm"));
      assert.match(engineFiles.join(" "), /^\/pkg\/wasm\/micro_yolo(_relaxed)?_bg\.wasm \/pkg\/wasm\/micro_yolo_full\1_bg\.wasm$/);
      assert.equal(requests.filter((path) => path === "/fixtures/red-spot.onnx").length, 1);
      const files = [...engineFiles, "/tests/e2e/fixtures/red-spot.onnx"].map((path) => readFile(join(ROOT, path.slice(1))));
      const total = (await Promise.all(files)).reduce((sum, file) => sum + file.length, 0);
      assert.deepEqual(found.seen.at(-1), { loaded: total, total });
      const loaded = found.seen.map((progress) => progress.loaded);
      assert.deepEqual(loaded, loaded.toSorted((a, b) => a - b));
    });

    test("a callback that throws ends its own load, and none that shares the download", async () => {
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, failure } = await import("/lib/in-page.js");
        const model = `${MODEL}?callback`;
        const onProgress = () => {
          throw new RangeError("mine");
        };
        const loads = [Detector.load({ model, onProgress }), Detector.load({ model })].map((load) => failure(load.then((one) => one.dispose())));
        return Promise.all([...loads, failure(Detector.load({ model, onProgress }))]);
      });
      assert.deepEqual(found.map(({ name, message, code }) => (message ? `${name}: ${message}` : code)), ["RangeError: mine", "nothing thrown", "RangeError: mine"]);
    });

    test("the engine that suits the browser is chosen, and both see the same", async () => {
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, spotCanvas } = await import("/lib/in-page.js");
        const picture = spotCanvas(90, 70, { x: 10, y: 10, w: 40, h: 40 });
        const load = async (options) => {
          const detector = await Detector.load({ model: MODEL, ...options });
          const { build } = detector;
          const [{ box, label }] = await detector.detect(picture);
          detector.dispose();
          return { build, label, box: Object.values(box).map(Math.round) };
        };
        // i32x4.relaxed_trunc_f32x4_s, the opcode 0x101.
        const isRelaxed = (bytes) => [...bytes].some((byte, at) => byte === 253 && bytes[at + 1] === 129 && bytes[at + 2] === 2);
        const validate = WebAssembly.validate;
        const best = await load({});
        let probed = false;
        WebAssembly.validate = (bytes) => {
          const refused = isRelaxed(bytes);
          probed ||= refused;
          return !refused && validate(bytes);
        };
        const plain = await load({});
        WebAssembly.validate = (bytes) => isRelaxed(bytes) || validate(bytes);
        const bySelf = await load({ wasm: "/pkg/wasm/micro_yolo_full_bg.wasm" });
        WebAssembly.validate = validate;
        return { best, plain, bySelf, probed };
      });
      if (name === "chromium") assert.equal(found.best.build, "relaxed-simd");
      assert.ok(found.probed, "the loader asks the browser");
      assert.equal(found.plain.build, "simd128");
      assert.equal(found.bySelf.build, "simd128", "what is asked for goes before what is best");
      for (const other of [found.plain, found.bySelf]) assert.deepEqual({ ...other, build: found.best.build }, found.best);
    });

    for (const worker of [true, false]) {
      test(`our own model runs on the plain engine, any other brings in the full one, worker: ${worker}`, async () => {
        await page.goto(`${site.url}blank.html`);
        const asked = site.requests.length;
        const own = await page.evaluate(async (worker) => {
          const { Detector } = await import("/pkg/index.js");
          globalThis.own = await Detector.load({ worker, scoreThreshold: 0 });
          return (await globalThis.own.detect(new ImageData(64, 48))).length;
        }, worker);
        assert.ok(own > 0);
        const engines = () => site.requests.slice(asked).filter((path) => path.endsWith(".wasm")).map((path) => path.split("/").at(-1));
        assert.match(engines().join(" "), /^micro_yolo(_relaxed)?_bg\.wasm$/);
        const found = await page.evaluate(async (worker) => {
          const { Detector } = await import("/pkg/index.js");
          const { MODEL, failure, spotCanvas } = await import("/lib/in-page.js");
          const picture = spotCanvas(90, 70, { x: 10, y: 10, w: 40, h: 40 });
          const other = await Detector.load({ model: MODEL, worker });
          const labels = (await other.detect(picture)).map(({ label }) => label);
          // Neither is in the other's way.
          const still = (await globalThis.own.detect(new ImageData(64, 48))).length;
          const again = (await other.detect(picture)).length;
          for (const one of [globalThis.own, other]) one.dispose();
          const { code } = await failure(Detector.load({ model: MODEL, wasm: "/pkg/wasm/micro_yolo_bg.wasm" }));
          return { labels, still, again, code };
        }, worker);
        assert.deepEqual(found, { labels: ["red spot"], still: own, again: 1, code: "needs-tract" });
        assert.match(engines()[1], /^micro_yolo_full(_relaxed)?_bg\.wasm$/);
      });
    }

    test("a browser without SIMD, or without reference types, is told so", async () => {
      const [simd, references] = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { failure } = await import("/lib/in-page.js");
        const validate = WebAssembly.validate;
        WebAssembly.validate = (bytes) => bytes.length > 64 && validate(bytes); // What an old browser says to the probe.
        const simd = await failure(Detector.load());
        const isReference = (bytes) => bytes[bytes.length - 2] === 111; // externref
        WebAssembly.validate = (bytes) => !isReference(bytes) && validate(bytes);
        const references = await failure(Detector.load());
        WebAssembly.validate = validate;
        return [simd, references];
      });
      assert.equal(simd.code, "no-simd");
      assert.equal(references.code, "unsupported");
      assert.match(references.message, /reference types.*96/);
    });

    test("options that do not exist are errors that name the nearest", async () => {
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, failure } = await import("/lib/in-page.js");
        const wrong = [{ treshold: 3 }, { scoretreshold: 1 }, { iou: 1 }, { numThreads: 2 }, { modelUrl: "x" }, { on_progress: 1 }, { backend: "wasm" }, 5];
        const said = [];
        for (const options of wrong) said.push(await failure(Detector.load(options)));
        const detector = await Detector.load({ model: MODEL, treshold: undefined });
        const picture = new ImageData(4, 4);
        for (const options of [{ signals: 1 }, { scoreThreshold: 0.5 }, { threshold: 0.5 }, 0.5]) said.push(await failure(detector.detect(picture, options)));
        const video = document.createElement("video");
        for (const options of [{ tracking: true }, { maxDetections: 3 }]) said.push(await failure(() => detector.watch(video, options)));
        detector.dispose();
        return said;
      });
      assert.deepEqual(found.map(({ code }) => code), found.map(() => "invalid-option"));
      const wanted = [/scoreThreshold/, /scoreThreshold/, /iouThreshold/, /threads/, /model/, /onProgress/, /it has `model`, `wasm`/, /object, not 5/]
        .concat([/signal/, /set `detector.scoreThreshold`/, /set `detector.scoreThreshold`/, /object, not 0.5/, /track/, /set `detector.maxDetections`/]);
      found.forEach(({ message }, at) => assert.match(message, wanted[at]));
    });

    test("base64 text is told from an address, and no message is as long as a file", async () => {
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, failure } = await import("/lib/in-page.js");
        const detector = await Detector.load({ model: MODEL });
        const text = "AGFzbQ".repeat(8000);
        const broken = new Image();
        broken.src = `data:image/png;base64,${text}`;
        await broken.decode().catch(() => {});
        const said = [
          await failure(Detector.load({ model: text })),
          await failure(Detector.load({ model: MODEL, wasm: text })),
          await failure(Detector.load({ model: `data:application/octet-stream;base64,${text}` })),
          await failure(Detector.load({ model: `${"x".repeat(48_000)}?` })),
          await failure(detector.detect(text)),
          await failure(detector.detect(broken)),
          await failure(detector.detect(`${text}?`)),
          await failure(Detector.load({ [text]: 1 })),
        ];
        detector.dispose();
        return said;
      });
      const codes = ["invalid-option", "invalid-option", "invalid-model", "network", "invalid-source", "invalid-image", "network", "invalid-option"];
      assert.deepEqual(found.map(({ code }) => code), codes);
      for (const { message } of found) assert.ok(message.length < 600, message.slice(0, 700));
      for (const at of [0, 1, 4]) assert.match(found[at].message, /base64/);
    });

    for (const worker of [true, false]) {
      test(`a crash is said, sticks, and the next load works, worker: ${worker}`, async () => {
        const engine = await readFile(join(ROOT, "pkg/wasm/micro_yolo_full_bg.wasm"));
        site.route("/trap.wasm", (_, response) => response.end(withTrap(engine, "engine_setClasses")));
        await page.goto(`${site.url}blank.html`);
        const found = await page.evaluate(async (worker) => {
          const { Detector } = await import("/pkg/index.js");
          const { MODEL, failure, spotCanvas } = await import("/lib/in-page.js");
          const options = { model: MODEL, wasm: "/trap.wasm", worker };
          const picture = spotCanvas(80, 80, { x: 10, y: 10, w: 40, h: 40 });
          const bystander = await Detector.load(options);
          const detector = await Detector.load(options);
          const before = (await detector.detect(picture)).length;
          detector.classes = ["red spot"];
          const [crash, queued] = await Promise.all([failure(detector.detect(picture)), failure(detector.detect(picture))]);
          detector.classes = undefined;
          const later = await failure(detector.detect(picture));
          // In a worker of its own another detector is not touched; on one thread they share their fate.
          const beside = await failure(bystander.detect(picture));
          const next = await Detector.load(options);
          const after = (await next.detect(picture)).length;
          const still = await failure(detector.detect(picture));
          for (const one of [bystander, detector, next]) one.dispose();
          return { before, after, crash, codes: [crash, queued, later, still].map((one) => one.code), beside: beside.code };
        }, worker);
        assert.equal(found.before, 1);
        assert.deepEqual(found.codes, Array(4).fill("crashed"));
        assert.match(found.crash.message, /unreachable/);
        assert.equal(found.beside, worker ? "nothing thrown" : "crashed");
        assert.equal(found.after, 1);
      });
    }

    test("a video is watched as it plays, always in its newest frame, until the signal", async () => {
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, spotCanvas, videoOf } = await import("/lib/in-page.js");
        const detector = await Detector.load({ model: MODEL });
        const canvas = spotCanvas(320, 240, { x: 0, y: 0, w: 0, h: 0 });
        let x = 10;
        const { video, stop } = await videoOf(canvas, () => {
          x = x > 200 ? 10 : x + 2;
          const context = canvas.getContext("2d");
          context.fillStyle = "rgb(110 120 130)";
          context.fillRect(0, 0, 320, 240);
          context.fillStyle = "rgb(255 0 0)";
          context.fillRect(x, 100, 80, 60);
        });
        const controller = new AbortController();
        const results = [];
        let busy = 0;
        for await (const { objects, frame } of detector.watch(video, { signal: controller.signal, track: true })) {
          results.push({ x: objects[0]?.box.x, track: objects[0]?.trackId, count: objects.length, ...frame });
          if (results.length === 6) {
            // Who is slow gets fewer frames, not older ones.
            await new Promise((resolve) => setTimeout(resolve, 400));
            busy = 7;
          }
          if (results.length === 15) controller.abort();
        }
        stop();
        detector.dispose();
        return { results, dropped: results[busy - 1].dropped };
      });
      assert.equal(found.results.length, 15);
      for (const result of found.results) {
        const { count, width, height, milliseconds, time } = result;
        const right = count <= 1 && width === 320 && height === 240 && milliseconds >= 0 && time >= 0;
        assert.ok(right, JSON.stringify(result));
      }
      // A browser's clock may show a millisecond at a time, and a frame of so small a model takes less.
      assert.ok(found.results.some(({ milliseconds }) => milliseconds > 0));
      assert.ok(new Set(found.results.map(({ x }) => Math.round(x))).size > 5, "the box moves with the video");
      const tracks = new Set(found.results.map(({ track }) => track).filter((track) => track != null));
      // It jumps back once at the right edge, and after 400 ms it may be elsewhere: a new number each time at most.
      assert.ok(tracks.size >= 1 && tracks.size <= 3, `numbers ${[...tracks]}`);
      assert.ok(found.dropped >= 3, `dropped ${found.dropped} frames in 400 ms`);
    });

    test("a hidden page is not watched", async () => {
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, sleep, spotCanvas, videoOf } = await import("/lib/in-page.js");
        const detector = await Detector.load({ model: MODEL });
        const { video, stop } = await videoOf(spotCanvas(80, 80, { x: 10, y: 10, w: 40, h: 40 }));
        const controller = new AbortController();
        let frames = 0;
        const loop = (async () => {
          for await (const _ of detector.watch(video, { signal: controller.signal })) frames += 1;
        })();
        const setVisibility = (state) => {
          Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        };
        while (frames < 3) await sleep(10);
        setVisibility("hidden");
        await sleep(200); // What was under way ends.
        const hidden = frames;
        await sleep(300);
        const still = frames;
        setVisibility("visible");
        while (frames < still + 3) await sleep(10);
        delete document.visibilityState;
        controller.abort();
        await loop;
        stop();
        detector.dispose();
        return { hidden, still };
      });
      assert.equal(found.still, found.hidden);
    });

    test("the element follows a video, and stops when it is taken out", async () => {
      const found = await page.evaluate(async () => {
        await import("/pkg/element.js");
        const { MODEL, sleep, spotCanvas, videoOf } = await import("/lib/in-page.js");
        const { video, stop } = await videoOf(spotCanvas(80, 80, { x: 10, y: 10, w: 40, h: 40 }));
        const element = document.createElement("micro-yolo");
        element.setAttribute("model", MODEL);
        element.setAttribute("track", "");
        let events = 0;
        const problems = [];
        element.addEventListener("detect", () => (events += 1));
        element.addEventListener("detect-error", ({ detail }) => problems.push(detail.error.code));
        element.append(video);
        document.body.append(element);
        await video.play(); // Moving it paused it.
        while (events < 4) await sleep(10);
        const { trackId } = element.objects[0];
        element.remove();
        await sleep(100);
        const taken = events;
        await sleep(200);
        const after = events;
        document.body.append(element);
        await video.play();
        while (events < after + 2) await sleep(10);
        element.remove();
        stop();
        return { trackId, taken, after, problems };
      });
      assert.equal(typeof found.trackId, "number");
      assert.equal(found.after, found.taken);
      assert.deepEqual(found.problems, []);
    });

    test("watching ends with the video, waits for one that has not loaded, and refuses what is none", async () => {
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, failure, spotCanvas, videoOf } = await import("/lib/in-page.js");
        const detector = await Detector.load({ model: MODEL });
        const video = document.createElement("video");
        let frames = 0;
        const loop = (async () => {
          for await (const { objects } of detector.watch(video)) frames += objects.length;
          return "ended";
        })();
        await new Promise((resolve) => setTimeout(resolve, 100));
        const early = frames;
        const { video: other, stop } = await videoOf(spotCanvas(80, 80, { x: 10, y: 10, w: 40, h: 40 }));
        video.muted = true;
        video.srcObject = other.srcObject;
        await video.play();
        while (frames < 3) await new Promise((resolve) => setTimeout(resolve, 20));
        stop(); // The camera is unplugged.
        const ended = await Promise.race([loop, new Promise((resolve) => setTimeout(resolve, 5000, "hangs"))]);
        const wrong = await failure(() => detector.watch(document.createElement("canvas")));
        detector.dispose();
        return { early, ended, wrong: wrong.code };
      });
      assert.deepEqual(found, { early: 0, ended: "ended", wrong: "invalid-source" });
    });

    test("the element shows boxes over an image", async () => {
      const found = await page.evaluate(async (rectangle) => {
        await import("/pkg/element.js");
        const { MODEL, blobOf, spotCanvas } = await import("/lib/in-page.js");
        const element = document.createElement("micro-yolo");
        element.setAttribute("model", MODEL);
        const image = new Image();
        image.width = 200;
        image.src = URL.createObjectURL(await blobOf(spotCanvas(400, 200, rectangle)));
        element.append(image);
        const event = (name) => new Promise((resolve) => element.addEventListener(name, resolve, { once: true }));
        const first = event("detect");
        document.body.append(element);
        const { detail } = await first;
        const canvas = element.shadowRoot.querySelector("canvas");
        const [onImage, onCanvas] = [image, canvas].map((one) => {
          const { x, y, width, height } = one.getBoundingClientRect();
          return [x, y, width, height].map(Math.round);
        });
        const painted = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((one) => one > 0);
        const failed = event("detect-error");
        element.addEventListener("detect-error", (error) => error.preventDefault());
        element.scoreThreshold = 7;
        const { detail: problem } = await failed;
        element.remove();
        return { detail, onImage, onCanvas, painted, problem: problem.error.code };
      }, RECTANGLE);
      assertBox(found.detail.objects, RECTANGLE, "element");
      assert.deepEqual([found.detail.width, found.detail.height], [400, 200]);
      assert.deepEqual(found.onCanvas, found.onImage);
      assert.ok(found.painted);
      assert.equal(found.problem, "invalid-option");
    });
  });
}
