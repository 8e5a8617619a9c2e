// Threads: helpers where the page is isolated, the same answers with and without them, and no harm where they are missing.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";
import { launchChromium, launchFirefox } from "./lib/browsers.mjs";
import { ROOT, SITE, serve } from "./lib/server.mjs";

const ISOLATED = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
  "cross-origin-resource-policy": "cross-origin",
};

for (const [name, launch] of Object.entries({ chromium: launchChromium, firefox: launchFirefox })) {
  describe(`threads in ${name}`, () => {
    let site, plain, browser;

    before(async () => {
      const blank = (headers) => (_, response) =>
        response.writeHead(200, { ...headers, "content-type": "text/html" }).end("<!doctype html><title>test</title>");
      site = await serve({ mounts: { ...SITE, "/lib/": "tests/e2e/lib", "/alone/": "pkg" }, headers: ISOLATED });
      site.route("/blank.html", blank(ISOLATED));
      // The workers of two detectors start, no helper does.
      let started = 0;
      site.route("/alone/worker.js", async (_, response) => {
        started += 1;
        if (started > 2) return response.writeHead(503, ISOLATED).end();
        const script = await readFile(join(ROOT, "pkg/worker.js"));
        response.writeHead(200, { ...ISOLATED, "content-type": "text/javascript" }).end(script);
      });
      plain = await serve({ mounts: { ...SITE, "/lib/": "tests/e2e/lib" } });
      plain.route("/blank.html", blank({}));
      browser = await launch();
    });

    after(async () => {
      await browser?.close();
      await site?.close();
      await plain?.close();
    });

    /** Runs `f` in a new page of a site; whether threads can be expected there. */
    async function inPage(where, f, argument) {
      const page = await browser.newPage();
      try {
        await page.goto(`${where.url}blank.html`);
        const isolated = await page.evaluate(async () => {
          const { hasRelaxedSimd } = await import("/pkg/platform.js");
          return globalThis.crossOriginIsolated && hasRelaxedSimd();
        });
        return { isolated, result: await page.evaluate(f, argument) };
      } finally {
        await page.close();
      }
    }

    /** Detects in a photograph with each of these options: threads, build and objects of each. */
    const detectWith = async ({ all, from = "/pkg/" }) => {
      const { Detector } = await import(`${from}index.js`);
      const photograph = await (await fetch("/samples/coffee.jpg")).blob();
      const found = [];
      for (const options of all) {
        const detector = await Detector.load({ scoreThreshold: 0.02, ...options });
        let objects;
        // Often enough that helpers are caught in every state.
        for (let i = 0; i < 20; i += 1) objects = JSON.stringify(await detector.detect(photograph));
        found.push({ threads: detector.threads, build: detector.build, objects });
        detector.dispose();
      }
      return found;
    };

    test("several threads see what one sees", async () => {
      const { isolated, result } = await inPage(site, detectWith, { all: [{}, { threads: 2 }, { threads: 3 }] });
      const [one, two, three] = result;
      assert.equal(one.threads, 1);
      assert.ok(JSON.parse(one.objects).length > 2, one.objects);
      if (!isolated) assert.equal(name, "firefox", "Chromium has relaxed SIMD and threads");
      assert.deepEqual([two.threads, three.threads], isolated ? [2, 3] : [1, 1]);
      assert.equal(two.build === "threads", isolated);
      assert.equal(two.objects, one.objects);
      assert.equal(three.objects, one.objects);
    });

    test("two detectors have their own helpers", async () => {
      const { result } = await inPage(site, async () => {
        const { Detector } = await import("/pkg/index.js");
        const load = () => Detector.load({ threads: 2 });
        const [a, b] = await Promise.all([load(), load()]);
        const photograph = await (await fetch("/samples/cat.jpg")).blob();
        const labels = async (detector) => (await detector.detect(photograph)).map(({ label }) => label);
        const before = await Promise.all([labels(a), labels(b)]);
        a.dispose();
        return [...before, await labels(b)];
      });
      for (const labels of result) assert.deepEqual(labels, result[0]);
      assert.ok(result[0].includes("cat"), String(result[0]));
    });

    test("where threads cannot be had, one does", async () => {
      const elsewhere = await inPage(plain, detectWith, { all: [{ threads: 2 }] });
      assert.equal(elsewhere.isolated, false);
      assert.equal(elsewhere.result[0].threads, 1);
      assert.notEqual(elsewhere.result[0].build, "threads");
      const all = [{ threads: 2, worker: false }, { threads: 2, model: "/fixtures/red-spot.onnx" }];
      for (const { threads, build } of (await inPage(site, detectWith, { all })).result) {
        assert.equal(threads, 1);
        assert.notEqual(build, "threads");
      }
    });

    test("a helper that does not start is done without", async () => {
      const { result } = await inPage(site, detectWith, { all: [{}, { threads: 3 }], from: "/alone/" });
      assert.equal(result[1].threads, 1);
      assert.equal(result[1].objects, result[0].objects);
    });

    test("an element asks for as many as its attribute says", async () => {
      const { isolated, result } = await inPage(site, async () => {
        const { Detector } = await import("/pkg/index.js");
        // The element's detector is its own: what it loads is seen here.
        const loaded = [];
        const load = Detector.load;
        Detector.load = (options) => {
          const detector = load.call(Detector, options);
          loaded.push(detector);
          return detector;
        };
        await import("/pkg/element.js");
        const found = (element) =>
          new Promise((resolve) => {
            element.addEventListener("detect", ({ detail }) => resolve(detail.objects.map(({ label }) => label)), { once: true });
            element.addEventListener("detect-error", ({ detail }) => resolve(String(detail.error)), { once: true });
          });
        document.body.innerHTML = `<micro-yolo threads=" 2 "><img src="/samples/cat.jpg"></micro-yolo>`;
        const element = document.body.firstElementChild;
        const labels = [await found(element)];
        element.removeAttribute("threads");
        labels.push(await found(element));
        element.setAttribute("threads", "");
        labels.push(await found(element));
        return { labels, threads: await Promise.all(loaded.map(async (detector) => (await detector).threads)) };
      });
      assert.deepEqual(result.labels, [["cat"], ["cat"], ["cat"]]);
      // An empty attribute counts as left out, and what has the same options has the same detector.
      assert.deepEqual(result.threads, isolated ? [2, 1] : [1, 1]);
    });

    test("numbers of threads that are none", async () => {
      const { result } = await inPage(site, async () => {
        const { Detector } = await import("/pkg/index.js");
        const { failure } = await import("/lib/in-page.js");
        return Promise.all([0, -1, 1.5, NaN, "2"].map((threads) => failure(Detector.load({ threads }))));
      });
      for (const { code, message } of result) {
        assert.equal(code, "invalid-option", message);
        assert.match(message, /threads/);
      }
    });
  });
}
