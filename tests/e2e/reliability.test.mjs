// What goes wrong in the long run: memory over frames and detectors, many calls at once, giving up at every stage, and a worker
// that is killed. The long form of the first part is benches/browser/soak.mjs, its figures are in docs/reliability.md.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";
import { Readable } from "node:stream";
import { launchChromium, launchFirefox } from "./lib/browsers.mjs";
import { ROOT, SITE, serve } from "./lib/server.mjs";

for (const [name, launch] of Object.entries({ chromium: launchChromium, firefox: launchFirefox })) {
  describe(`reliability in ${name}`, () => {
    let site, browser, page;
    const errors = [];

    before(async () => {
      site = await serve({ mounts: { ...SITE, "/lib/": "tests/e2e/lib" } });
      site.route("/blank.html", (_, response) =>
        response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>reliability</title><body>"),
      );
      browser = await launch();
      page = await browser.newPage();
      // Firefox also calls what it notes about the network an error.
      page.on("pageerror", (error) => /ReadableStream/.test(String(error)) || errors.push(String(error)));
      await page.goto(`${site.url}blank.html`);
    });
    after(async () => {
      await browser?.close();
      await site?.close();
      assert.deepEqual(errors, [], "errors that nobody caught");
    });

    test("memory is flat over 200 frames and 20 detectors", async () => {
      const found = await page.evaluate(async () => {
        // On the page's own thread, where the memory of the engine can be read. It grows only.
        const instantiate = WebAssembly.instantiate;
        let memory;
        WebAssembly.instantiate = async (...values) => {
          const result = await instantiate(...values);
          memory = (result.instance ?? result).exports.memory;
          return result;
        };
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, spotCanvas } = await import("/lib/in-page.js");
        const load = () => Detector.load({ model: MODEL, worker: false });
        const picture = spotCanvas(320, 240, { x: 40, y: 60, w: 120, h: 80 });
        const sizes = { frames: [], detectors: [] };
        let seen = 0;
        const detector = await load();
        for (let count = 0; count < 200; count += 1) {
          seen += (await detector.detect(picture)).length;
          if (count === 19 || count === 199) sizes.frames.push(memory.buffer.byteLength);
        }
        detector.dispose();
        for (let count = 0; count < 20; count += 1) {
          const one = await load();
          seen += (await one.detect(picture)).length;
          one.dispose();
          if (count === 4 || count === 19) sizes.detectors.push(memory.buffer.byteLength);
        }
        WebAssembly.instantiate = instantiate;
        return { sizes, seen };
      });
      assert.equal(found.seen, 220);
      for (const [what, [settled, last]] of Object.entries(found.sizes)) assert.equal(last, settled, what);
    });

    test("100 calls at once are all answered, in order", async () => {
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, spotCanvas } = await import("/lib/in-page.js");
        const detector = await Detector.load({ model: MODEL });
        const at = (index) => 8 + 2 * index;
        const order = [];
        const calls = Array.from({ length: 100 }, (_, index) =>
          detector.detect(spotCanvas(320, 160, { x: at(index), y: 40, w: 90, h: 60 })).then(([object]) => {
            order.push(index);
            return Math.abs(object.box.x - at(index));
          }),
        );
        const off = Math.max(...(await Promise.all(calls)));
        detector.dispose();
        return { off, inOrder: order.every((index, place) => index === place) };
      });
      assert.ok(found.off < 4, `a box is ${found.off} px off`);
      assert.ok(found.inOrder);
    });

    test("a load is given up at every stage, and the next one works", async () => {
      const files = { "/late.wasm": "pkg/wasm/micro_yolo_full_bg.wasm", "/late.onnx": "tests/e2e/fixtures/red-spot.onnx" };
      const contents = Object.fromEntries(
        await Promise.all(Object.entries(files).map(async ([path, file]) => [path, await readFile(join(ROOT, file))])),
      );
      const stages = [
        ["asked", "/late.wasm", 0],
        ["in the middle of the engine", "/late.wasm", 0.5],
        ["in the middle of the model", "/late.onnx", 0.5],
        ["all is there", "/late.onnx", 1],
      ];
      for (const [stage, stopped, part] of stages) {
        for (const [path, bytes] of Object.entries(contents)) {
          site.route(path, (_, response) => {
            const type = path.endsWith("wasm") ? "application/wasm" : "application/octet-stream";
            response.writeHead(200, { "content-type": type, "content-length": bytes.length, "cache-control": "no-store" });
            if (path === stopped && part < 1) response.write(bytes.subarray(0, Math.max(1, bytes.length * part)));
            else response.end(bytes);
          });
        }
        const codes = await page.evaluate(
          async ({ all, half }) => {
            const { Detector } = await import("/pkg/index.js");
            const { failure } = await import("/lib/in-page.js");
            const codes = [];
            for (const worker of [true, false]) {
              const stop = new AbortController();
              // A new address: the engine of an earlier load would be there at once.
              const options = { wasm: `/late.wasm?${Math.random()}`, model: "/late.onnx", worker };
              const onProgress = ({ loaded }) => {
                if (loaded >= (half ? all / 2 : all)) stop.abort();
              };
              if (!all) setTimeout(() => stop.abort(), 100);
              const { code } = await failure(Detector.load({ ...options, signal: stop.signal, onProgress: all ? onProgress : undefined }));
              codes.push(code);
            }
            return codes;
          },
          {
            all: stage === "asked" ? 0 : stage === "all is there" ? contents["/late.wasm"].length + contents["/late.onnx"].length : contents[stopped].length,
            half: part === 0.5,
          },
        );
        assert.deepEqual(codes, ["aborted", "aborted"], stage);
      }
      const seen = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, spotCanvas } = await import("/lib/in-page.js");
        const detector = await Detector.load({ model: MODEL });
        const { length } = await detector.detect(spotCanvas(320, 160, { x: 30, y: 40, w: 90, h: 60 }));
        detector.dispose();
        return length;
      });
      assert.equal(seen, 1);
    });

    test("the network is lost in the middle of the model, and the next load works", async () => {
      const model = await readFile(join(ROOT, "tests/e2e/fixtures/red-spot.onnx"));
      let lost = true;
      site.route("/lost.onnx", (_, response) => {
        response.writeHead(200, { "content-length": model.length });
        if (lost) response.write(model.subarray(0, model.length / 2), () => response.destroy());
        else response.end(model);
      });
      const load = () =>
        page.evaluate(async () => {
          const { Detector } = await import("/pkg/index.js");
          const { failure } = await import("/lib/in-page.js");
          return failure(async () => (await Detector.load({ model: "/lost.onnx" })).dispose());
        });
      const { code, message } = await load();
      assert.equal(code, "network");
      assert.match(message, /\/lost\.onnx stopped before its end/);
      lost = false;
      assert.equal((await load()).code, "nothing thrown");
    });

    test("an answer without end is left where it is too long, and its connection is closed", async () => {
      const chunk = new Uint8Array(2 ** 20);
      const starts = { engine: [0, 97, 115, 109, 1, 0, 0, 0, 0, 0x80, 0x94, 0xeb, 0xdc, 0x03, 1, 97], noEngine: [], picture: [], missing: [] };
      const closed = {};
      for (const [name, start] of Object.entries(starts)) {
        site.route(`/endless/${name}`, (_, response) => {
          closed[name] = new Promise((resolve) => response.on("close", resolve));
          response.writeHead(name === "missing" ? 404 : 200, { "cache-control": "no-store" });
          response.write(new Uint8Array(start));
          Readable.from((function* () {
            for (;;) yield chunk;
          })()).pipe(response);
        });
      }
      const codes = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, failure } = await import("/lib/in-page.js");
        const detector = await Detector.load({ model: MODEL });
        const engine = (wasm) => Detector.load({ wasm, model: MODEL });
        const tried = [engine("/endless/engine"), engine("/endless/noEngine"), detector.detect("/endless/picture"), detector.detect("/endless/missing")];
        const codes = await Promise.all(tried.map(async (one) => (await failure(one)).code));
        detector.dispose();
        return codes;
      });
      assert.deepEqual(codes, ["invalid-engine", "invalid-engine", "image-too-large", "network"]);
      await Promise.all(Object.values(closed));
    });

    test("a call is given up at every stage, and the next one is answered", async () => {
      const found = await page.evaluate(async () => {
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, blobOf, failure, spotCanvas, videoOf } = await import("/lib/in-page.js");
        const codes = {};
        for (const worker of [true, false]) {
          const detector = await Detector.load({ model: MODEL, worker });
          const canvas = spotCanvas(320, 160, { x: 30, y: 40, w: 90, h: 60 });
          const blob = await blobOf(canvas);
          const seen = [];
          const given = async (start) => {
            const stop = new AbortController();
            const call = failure(start(stop.signal, () => stop.abort()));
            seen.push((await call).code);
            seen.push((await detector.detect(canvas)).length);
          };
          await given((signal, abort) => (abort(), detector.detect(canvas, { signal }))); // Before it began.
          await given((signal, abort) => {
            const call = detector.detect(blob, { signal }); // While the picture is decoded.
            abort();
            return call;
          });
          await given((signal, abort) => {
            // While it waits behind others.
            for (let count = 0; count < 5; count += 1) void detector.detect(canvas);
            const call = detector.detect(canvas, { signal });
            setTimeout(abort, 0);
            return worker ? call : call.then(() => Promise.reject({ code: "aborted" })); // One thread is done by then.
          });
          const { video, stop } = await videoOf(canvas);
          await given(async (signal, abort) => {
            // In the middle of watching. The loop ends, and that is no error.
            for await (const _ of detector.watch(video, { signal })) abort();
            throw Object.assign(new Error("the loop ended"), { code: "ended" });
          });
          stop();
          detector.dispose();
          codes[worker] = seen;
        }
        return codes;
      });
      const wanted = ["aborted", 1, "aborted", 1, "aborted", 1, "ended", 1];
      assert.deepEqual(found, { true: wanted, false: wanted });
    });

    test("a worker that is killed in mid-frame is left by the call's signal", async () => {
      const found = await page.evaluate(async () => {
        const Native = Worker;
        const started = [];
        globalThis.Worker = class extends Native {
          constructor(...values) {
            super(...values);
            started.push(this);
          }
        };
        const { Detector } = await import("/pkg/index.js");
        const { MODEL, failure, spotCanvas } = await import("/lib/in-page.js");
        const canvas = spotCanvas(320, 160, { x: 30, y: 40, w: 90, h: 60 });
        const detector = await Detector.load({ model: MODEL });
        globalThis.Worker = Native;
        const call = failure(detector.detect(canvas, { signal: AbortSignal.timeout(500) }));
        const other = failure(detector.detect(canvas));
        // As a browser that is short of memory: no event tells of it.
        started[0].terminate();
        const { code } = await call;
        detector.dispose(); // Ends what waits without a signal.
        const waiting = await other;
        const next = await Detector.load({ model: MODEL });
        const { length } = await next.detect(canvas);
        next.dispose();
        return [started.length, code, waiting.code, length];
      });
      assert.deepEqual(found, [1, "aborted", "disposed", 1]);
    });
  });
}
