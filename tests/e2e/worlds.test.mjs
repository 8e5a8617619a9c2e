// Objects of another window, and views into memory that is not the picture's alone, in both browsers.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { launchChromium, launchFirefox } from "./lib/browsers.mjs";
import { SITE, serve } from "./lib/server.mjs";

for (const [name, launch] of Object.entries({ chromium: launchChromium, firefox: launchFirefox })) {
  describe(`other worlds in ${name}`, () => {
    let site, browser, page;

    before(async () => {
      site = await serve({ mounts: { ...SITE, "/lib/": "tests/e2e/lib" } });
      site.route("/blank.html", (_, response) =>
        response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>worlds</title><body>"),
      );
      browser = await launch();
      page = await browser.newPage();
      await page.goto(`${site.url}blank.html`);
    });

    after(async () => {
      await browser?.close();
      await site?.close();
    });

    for (const worker of [true, false]) {
      test(`everything an iframe can hand over, worker: ${worker}`, async () => {
        const found = await page.evaluate(async (worker) => {
          const { Detector } = await import("/pkg/index.js");
          const { MODEL, blobOf, sleep, spotCanvas } = await import("/lib/in-page.js");
          const frame = document.body.appendChild(document.createElement("iframe"));
          const other = frame.contentWindow;
          const sheet = other.document.importNode(spotCanvas(100, 80, { x: 0, y: 0, w: 0, h: 0 }));
          const context = sheet.getContext("2d");
          context.drawImage(spotCanvas(100, 80, { x: 20, y: 10, w: 50, h: 40 }), 0, 0);
          const pixels = context.getImageData(0, 0, 100, 80);
          const bytes = new Uint8Array(await (await blobOf(sheet)).arrayBuffer());
          const blob = new other.Blob([bytes], { type: "image/png" });
          const image = other.document.createElement("img");
          image.src = URL.createObjectURL(blob);
          await image.decode();
          const controller = new other.AbortController();
          const detector = await Detector.load({ model: MODEL, worker, signal: controller.signal });
          const raw = new other.Uint8Array(pixels.data);
          const sources = {
            "canvas": sheet,
            "ImageData": pixels,
            "pixels": { data: raw, width: 100, height: 80 },
            "clamped pixels": { data: pixels.data, width: 100, height: 80 },
            "Blob": blob,
            "File": new other.File([blob], "spot.png"),
            "URL": new other.URL(image.src),
            image,
            "OffscreenCanvas": (() => {
              const canvas = new other.OffscreenCanvas(100, 80);
              canvas.getContext("2d").drawImage(sheet, 0, 0);
              return canvas;
            })(),
            "ImageBitmap": await other.createImageBitmap(sheet),
            "VideoFrame": new other.VideoFrame(sheet, { timestamp: 0 }),
          };
          const answers = {};
          for (const [kind, source] of Object.entries(sources)) {
            const objects = await detector.detect(source).catch((error) => [{ label: `${error.code}: ${error.message}` }]);
            answers[kind] = objects.map(({ label }) => label).join();
          }
          sources.VideoFrame.close();
          // Its video, with a stream of its own.
          const video = other.document.body.appendChild(other.document.createElement("video"));
          video.muted = true;
          const timer = setInterval(() => context.fillRect(0, 0, 1, 1), 30);
          video.srcObject = sheet.captureStream(30);
          await video.play();
          let seen = 0;
          const loop = (async () => {
            for await (const { objects } of detector.watch(video)) {
              seen += objects.length;
              if (seen === 3) for (const track of video.srcObject.getTracks()) track.stop();
            }
            return "ended";
          })();
          answers.video = await Promise.race([loop, sleep(5000).then(() => "hangs")]);
          answers.frames = seen >= 3;
          clearInterval(timer);
          detector.dispose();
          // Engine and model.
          const engine = await (await fetch("/pkg/wasm/micro_yolo_full_bg.wasm")).arrayBuffer();
          const model = await (await fetch(MODEL)).arrayBuffer();
          const address = (path) => new other.URL(path, location);
          for (const [kind, options] of Object.entries({
            "module": { wasm: await other.WebAssembly.compile(engine), model: MODEL },
            "URLs": { wasm: address("/pkg/wasm/micro_yolo_full_bg.wasm"), model: address(MODEL) },
            "bytes": { wasm: new other.Uint8Array(engine), model: new other.Uint8Array(model) },
            "buffers": { wasm: new other.Uint8Array(engine).buffer, model: new other.Uint8Array(model).buffer },
            "model as Blob": { wasm: "/pkg/wasm/micro_yolo_full_bg.wasm", model: new other.Blob([model]) },
            "classes": { model: MODEL, classes: other.Array.of("red spot") },
          })) {
            const one = await Detector.load({ worker, ...options }).catch((error) => error);
            answers[kind] = one.detect ? (await one.detect(pixels)).length : `${one.code}: ${one.message}`;
            one.dispose?.();
          }
          frame.remove();
          return answers;
        }, worker);
        const kinds = Object.keys(found).filter((kind) => typeof found[kind] === "string" && kind !== "video");
        assert.deepEqual(kinds.filter((kind) => found[kind] !== "red spot"), [], JSON.stringify(found));
        assert.ok(kinds.length >= 11);
        assert.deepEqual([found.video, found.frames], ["ended", true]);
        for (const kind of ["module", "URLs", "bytes", "buffers", "model as Blob", "classes"]) assert.equal(found[kind], 1, kind);
      });
    }

    test("a canvas whose frame was closed is seen or said to be empty", async () => {
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, spotCanvas } = await import("/lib/in-page.js");
        const copyOf = (document) => {
          const copy = Object.assign(document.createElement("canvas"), { width: 100, height: 80 });
          copy.getContext("2d").drawImage(spotCanvas(100, 80, { x: 20, y: 10, w: 50, h: 40 }), 0, 0);
          return copy;
        };
        const frame = document.body.appendChild(document.createElement("iframe"));
        const inFrame = copyOf(frame.contentDocument);
        frame.remove();
        // A document that never had a window.
        const inNone = copyOf(new DOMParser().parseFromString("", "text/html"));
        const answers = [];
        for (const worker of [true, false]) {
          const detector = await Detector.load({ model: MODEL, worker });
          const look = (canvas) => detector.detect(canvas).then(([{ label }]) => label, ({ code, message }) => `${code}: ${message}`);
          answers.push(await look(inFrame), await look(inNone));
          detector.dispose();
        }
        return answers;
      });
      const closed = "invalid-image: the canvas is empty: the frame or window that it belonged to was closed";
      for (const at of [0, 2]) assert.ok(["red spot", closed].includes(found[at]), found[at]);
      for (const at of [1, 3]) assert.equal(found[at], "red spot");
    });

    test("of a view only its own bytes are copied, wherever they lie", async () => {
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, failure, spotCanvas } = await import("/lib/in-page.js");
        // What goes to the worker, in bytes, with all buffers that are under it.
        const sent = [];
        const { postMessage } = Worker.prototype;
        Worker.prototype.postMessage = function (message, ...rest) {
          for (const bytes of [message.frame?.data, message.model]) if (bytes) sent.push(bytes.buffer.byteLength);
          return postMessage.call(this, message, ...rest);
        };
        const model = new Uint8Array(await (await fetch(MODEL)).arrayBuffer());
        const archive = new Uint8Array(50_000_000);
        archive.set(model, 1000);
        const detector = await Detector.load({ model: archive.subarray(1000, 1000 + model.length) });
        const answers = { model: sent.splice(0).every((length) => length === model.length) };
        const pixels = spotCanvas(100, 80, { x: 20, y: 10, w: 50, h: 40 }).getContext("2d").getImageData(0, 0, 100, 80).data;
        const { length } = pixels;
        const memory = new WebAssembly.Memory({ initial: 1000 });
        const buffers = { "large": new ArrayBuffer(50_000_000), "wasm memory": memory.buffer };
        if (typeof SharedArrayBuffer === "function") buffers.shared = new SharedArrayBuffer(50_000_000);
        if (ArrayBuffer.prototype.resize) buffers.resizable = new ArrayBuffer(length + 4096, { maxByteLength: 50_000_000 });
        for (const [kind, buffer] of Object.entries(buffers)) {
          const data = new Uint8ClampedArray(buffer, 4096, length);
          data.set(pixels);
          const objects = await detector.detect({ data, width: 100, height: 80 });
          answers[kind] = [objects.length, ...sent.splice(0), data.length].join();
        }
        // Given away where that can be, copied where it cannot.
        for (const [kind, buffer] of Object.entries(buffers)) {
          const data = new Uint8Array(buffer, 4096, length);
          const objects = await detector.detect({ data, width: 100, height: 80 }, { transfer: true });
          answers[`${kind}, given`] = [objects.length, data.length].join();
        }
        // Twice at once: the second finds nothing.
        const data = new Uint8Array(pixels);
        const picture = { data, width: 100, height: 80 };
        const twice = [1, 2].map(() => failure(detector.detect(picture, { transfer: true })));
        answers.twice = (await Promise.all(twice)).map(({ code }) => code);
        answers.after = (await failure(detector.detect(picture))).code;
        // Memory that grows takes its views along.
        const view = { data: new Uint8Array(memory.buffer, 0, 4), width: 1, height: 1 };
        memory.grow(1);
        answers.grown = (await failure(detector.detect(view))).code;
        Worker.prototype.postMessage = postMessage;
        detector.dispose();
        return { answers, length };
      });
      const { answers, length } = found;
      assert.equal(answers.model, true);
      for (const kind of ["large", "wasm memory", "shared", "resizable"]) {
        if (!(kind in answers)) continue; // Not in this page.
        assert.equal(answers[kind], [1, length, length].join(), kind);
        const givenAway = kind === "large" || kind === "resizable";
        assert.equal(answers[`${kind}, given`], [1, givenAway ? 0 : length].join(), kind);
      }
      assert.deepEqual(answers.twice, ["nothing thrown", "invalid-image"]);
      assert.deepEqual([answers.after, answers.grown], ["invalid-image", "invalid-image"]);
    });

    for (const [what, replace] of Object.entries({
      "streams of its own": () => {
        // As a polyfill does. Native functions refuse its streams, and take them for text.
        globalThis.ReadableStream = globalThis.TransformStream = globalThis.WritableStream = class {
          readable = this;
          writable = this;
        };
      },
      "a fetch() without streams": () => {
        const { fetch, Response } = globalThis;
        globalThis.Response = class {
          constructor(content, { status = 200, headers } = {}) {
            this.content = content;
            Object.assign(this, { status, ok: status < 300, headers: new Headers(headers) });
          }
          arrayBuffer = async () => this.content;
          blob = async () => new Blob([this.content], { type: this.headers.get("content-type") });
        };
        globalThis.fetch = async (...given) => {
          const response = await fetch(...given);
          return new globalThis.Response(await Response.prototype.arrayBuffer.call(response), response);
        };
      },
      "what Node has, as in Electron": () => {
        const nothing = () => {};
        const process = { type: "renderer", versions: { node: "24.1.0", electron: "36.3.0" }, env: {}, getBuiltinModule: nothing };
        const require = (module) => {
          throw new Error(`there is no ${module}`);
        };
        Object.assign(globalThis, { process, require, module: { exports: {} }, exports: {}, global: globalThis, Buffer: class extends Uint8Array {} });
      },
      "frozen prototypes, against scripts of others": () => {
        for (const { prototype } of [Object, Array, Function, Error, Promise, Map, Set, Uint8Array, ArrayBuffer]) Object.freeze(prototype);
        const generator = async function* () {};
        for (let one = generator.prototype; one; one = Object.getPrototypeOf(one)) Object.freeze(one);
      },
      "methods of its own": () => {
        // Enumerable, as libraries of old added them.
        for (const { prototype } of [Object, Array, Function, String]) prototype.extend = function () {};
      },
    })) {
      test(`a page may have ${what}`, async () => {
        const changed = await browser.newPage();
        const problems = [];
        changed.on("pageerror", (error) => problems.push(String(error)));
        await changed.goto(`${site.url}blank.html`);
        await changed.evaluate(replace);
        const found = await changed.evaluate(async () => {
          const { MODEL, blobOf, failure, spotCanvas } = await import("/lib/in-page.js");
          const url = URL.createObjectURL(await blobOf(spotCanvas(100, 80, { x: 20, y: 10, w: 50, h: 40 })));
          const seen = {};
          for (const entry of ["index", "small", "inline"]) {
            for (const worker of [true, false]) {
              const call = `${entry}, worker: ${worker}`;
              const { code, message } = await failure(async () => {
                const { Detector } = await import(`/pkg/${entry}.js`);
                const detector = await Detector.load({ worker, ...(entry === "index" && { model: MODEL }), classes: [0] });
                seen[call] = [(await detector.detect(url)).length, detector.worker].join();
                detector.dispose();
              });
              if (!seen[call]) seen[call] = `${code}: ${message}`;
            }
          }
          const { Detector } = await import("/pkg/index.js");
          const { name, code } = await failure(Detector.load({ treshold: 1 }));
          seen.error = `${name}, ${code}`;
          const detector = await Detector.load({ model: MODEL });
          const frames = detector.watch(document.createElement("video"));
          const next = frames.next();
          seen.watched = String(await Promise.all([frames.return(), next]).then((answers) => answers.every(({ done }) => done)));
          detector.dispose();
          const { MicroYoloElement } = await import("/pkg/element.js");
          const element = Object.assign(new MicroYoloElement(), { model: MODEL, innerHTML: `<img src="${url}">` });
          document.body.append(element);
          seen.element = await new Promise((resolve) => {
            element.addEventListener("detect", ({ detail }) => resolve(String(detail.objects.length)));
            element.addEventListener("detect-error", ({ detail }) => resolve(String(detail.error)));
          });
          return seen;
        });
        await changed.close();
        // A red spot is no person.
        const expected = (worker) => ({ [`index, worker: ${worker}`]: `1,${worker}`, [`small, worker: ${worker}`]: `0,${worker}`, [`inline, worker: ${worker}`]: `0,${worker}` });
        assert.deepEqual(found, { ...expected(true), ...expected(false), error: "MicroYoloError, invalid-option", watched: "true", element: "1" });
        assert.deepEqual(problems, []);
      });
    }

    test("a page may have a Promise of its own, and Worker read-only", async () => {
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, blobOf, failure, spotCanvas } = await import("/lib/in-page.js");
        const blob = await blobOf(spotCanvas(100, 80, { x: 20, y: 10, w: 50, h: 40 }));
        const { Promise, Worker } = globalThis;
        const answers = [];
        // As zone.js and polyfills do; async functions go on giving native ones.
        globalThis.Promise = class extends Promise {};
        for (const worker of [true, false]) {
          const detector = await Detector.load({ model: MODEL, worker });
          answers.push(await detector.detect(blob).then(({ length }) => length, String));
          detector.dispose();
        }
        globalThis.Promise = Promise;
        Object.defineProperty(globalThis, "Worker", { value: Worker, writable: false, configurable: true });
        answers.push((await failure(async () => {
          const detector = await Detector.load({ model: MODEL });
          answers.push(detector.worker);
          detector.dispose();
        })).code);
        Object.defineProperty(globalThis, "Worker", { value: Worker, writable: true, configurable: true });
        return answers;
      });
      assert.deepEqual(found, [1, 1, true, "nothing thrown"]);
    });

    test("a bitmap and pixels that are transferred twice at once are said to be gone", async () => {
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, failure } = await import("/lib/in-page.js");
        const detector = await Detector.load({ model: MODEL, worker: true });
        const bitmap = await createImageBitmap(new ImageData(8, 8));
        const twice = [bitmap, bitmap].map((one) => failure(detector.detect(one, { transfer: true })));
        const pixels = new ImageData(8, 8);
        twice.push(...[1, 2].map(() => failure(detector.detect(pixels, { transfer: true }))));
        const found = await Promise.all(twice);
        detector.dispose();
        return found;
      });
      assert.deepEqual(
        found.map(({ code }) => code),
        ["nothing thrown", "invalid-image", "nothing thrown", "invalid-image"],
      );
      assert.match(found[3].message, /was transferred/);
    });
  });
}
