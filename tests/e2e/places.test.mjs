// The package where pages have fewer rights than usual: service workers, extensions, sandboxed frames, blob: modules, strict
// content security policies, browsers that hide pixels, and the oldest browser that can be had.
import assert from "node:assert/strict";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";
import { launchChromium, launchFirefox, launchOldChromium, launchWithExtension } from "./lib/browsers.mjs";
import { installed, whatIsSeen } from "./lib/project.mjs";
import { ROOT, serve } from "./lib/server.mjs";

/** Finds the cat, and says what it saw and how; everywhere the same. */
const LOOK = `
  async function look(Detector, options) {
    try {
      const detector = await Detector.load(options);
      const cat = await fetch(CAT);
      const objects = await detector.detect(await cat.blob());
      const seen = objects.map(({ label }) => label) + "; worker " + detector.worker + "; " + detector.build;
      detector.dispose();
      return seen;
    } catch (error) {
      return "failed: " + error.code + ": " + error.message;
    }
  }`;

const HTML = { "content-type": "text/html" };
const SCRIPT = { "content-type": "text/javascript" };
const CORS = { "access-control-allow-origin": "*" };

let project;
before(async () => {
  project = await installed();
});
after(async () => await project?.remove());

/** One file with the detector in it, as a bundler makes a classic script. */
const classic = (entry, code) => bundled(`import { Detector } from "${entry}";${code}`, "iife");

/**
 * @param {string} code
 * @param {"iife" | "esm"} format
 */
async function bundled(code, format) {
  const { build } = await import("esbuild");
  const root = await project.app("classic", { "main.js": code });
  const { outputFiles } = await build({ entryPoints: [join(root, "main.js")], bundle: true, write: false, format, logLevel: "silent" });
  return outputFiles[0].text;
}

for (const [name, launch] of Object.entries({ chromium: launchChromium, firefox: launchFirefox })) {
  describe(`in ${name}`, () => {
    let browser, site;
    before(async () => {
      browser = await launch();
      site = await serve({ mounts: { "/pkg/": project.home, "/": join(ROOT, "data/samples") }, headers: CORS });
    });
    after(async () => {
      await browser?.close();
      await site?.close();
    });

    const SETUP = () => `const CAT = "${site.url}cat.jpg";${LOOK}`;

    /** A page under some headers that does `code`; what it says, and what stood on its console. */
    async function page(code, headers = {}) {
      site.route("/page.html", (_, response) =>
        response.writeHead(200, { ...HTML, ...headers }).end('<!doctype html><title>waiting</title><script type="module" src="/page.js"></script>'),
      );
      site.route("/page.js", (_, response) => response.writeHead(200, { ...SCRIPT, ...CORS }).end(`${SETUP()}${code}`));
      const tab = await browser.newPage();
      const said = [];
      tab.on("console", (message) => said.push(message.text()));
      try {
        return { seen: await whatIsSeen(tab, `${site.url}page.html`), said: said.filter((text) => text.startsWith("micro-yolo")) };
      } finally {
        await tab.close();
      }
    }

    const say = (entry, options = "undefined") => `
      const { Detector } = await import("/pkg/${entry}.js");
      document.title = await look(Detector, ${options});`;

    test("a module from a blob: URL", async () => {
      const from = (text, options = "undefined") => `
        const text = ${text};
        const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
        document.title = await look((await import(url)).Detector, ${options});`;
      const fetched = (file) => `await (await fetch("/${file}")).text()`;
      assert.match((await page(from(fetched("pkg/inline.js")))).seen, /\bcat\b.*; worker true/);
      // One that imports the default entry leaves it where it is.
      const importing = `'export * from "' + new URL("/pkg/index.js", location) + '";'`;
      assert.match((await page(from(importing))).seen, /\bcat\b.*; worker true/);
      // The default entry itself, made one file: nothing lies beside a blob: URL, as the error says.
      const whole = await bundled('export { Detector } from "micro-yolo";', "esm");
      site.route("/whole.js", (_, response) => response.writeHead(200, SCRIPT).end(whole));
      assert.match((await page(from(fetched("whole.js")))).seen, /^failed: unsupported: .*blob:.*micro-yolo\/inline/);
      const named = '{ wasm: "/pkg/wasm/micro_yolo_bg.wasm", model: "/pkg/wasm/micro-yolo-int8.onnx" }';
      assert.match((await page(from(fetched("whole.js"), named))).seen, /\bcat\b.*; worker false/);
    });

    test("a classic script made of one file", async () => {
      site.route("/classic.js", async (_, response) =>
        response.writeHead(200, SCRIPT).end(await classic("micro-yolo/inline", `${SETUP()}look(Detector).then((seen) => (document.title = seen));`)),
      );
      site.route("/classic.html", (_, response) => response.writeHead(200, HTML).end('<!doctype html><title>waiting</title><script src="/classic.js"></script>'));
      const tab = await browser.newPage();
      assert.match(await whatIsSeen(tab, `${site.url}classic.html`), /\bcat\b.*; worker true/);
      await tab.close();
    });

    test("a service worker, as a module and as one classic script", async () => {
      const answering = `onmessage = async ({ data, source }) => source.postMessage(await look(Detector, data));`;
      const script = `${SETUP()}${answering}`;
      site.route("/inline-sw.js", (_, response) => response.writeHead(200, SCRIPT).end(`import { Detector } from "/pkg/inline.js";${script}`));
      site.route("/default-sw.js", (_, response) => response.writeHead(200, SCRIPT).end(`import { Detector } from "/pkg/index.js";${script}`));
      site.route("/classic-sw.js", async (_, response) => response.writeHead(200, SCRIPT).end(await classic("micro-yolo/inline", script)));
      const ask = (file, type, options = "undefined") => `
        const registration = await navigator.serviceWorker.register("/${file}", { type: "${type}", scope: "/${file}-scope/" });
        const worker = registration.active ?? registration.waiting ?? registration.installing;
        navigator.serviceWorker.onmessage = ({ data }) => (document.title = data);
        navigator.serviceWorker.startMessages();
        worker.postMessage(${options});`;
      assert.match((await page(ask("classic-sw.js", "classic"))).seen, /\bcat\b.*; worker false/);
      if (name === "firefox") return; // Modules in service workers came to it late.
      assert.match((await page(ask("inline-sw.js", "module"))).seen, /\bcat\b.*; worker false/);
      assert.match((await page(ask("default-sw.js", "module"))).seen, /^failed: unsupported: .*micro-yolo\/inline/);
      assert.match((await page(ask("inline-sw.js", "module", "{ worker: true }"))).seen, /^failed: unsupported: .*worker/);
    });

    test("a sandboxed frame", async () => {
      const inFrame = (entry) => `
        addEventListener("message", ({ data }) => (document.title = data));
        const frame = Object.assign(document.createElement("iframe"), { src: "/frame-${entry}.html" });
        frame.sandbox = "allow-scripts";
        document.body.append(frame);`;
      for (const entry of ["index", "inline"]) {
        site.route(`/frame-${entry}.html`, (_, response) =>
          response.writeHead(200, HTML).end(`<!doctype html><script type="module">${SETUP()}
            const { Detector } = await import("/pkg/${entry}.js");
            parent.postMessage(await look(Detector), "*");</script>`),
        );
        assert.match((await page(inFrame(entry))).seen, /\bcat\b.*; worker true/, entry);
      }
    });

    test("a page with Trusted Types", async () => {
      const required = "require-trusted-types-for 'script'";
      const under = (policy) => ({ "content-security-policy": policy });
      for (const entry of ["index", "inline"]) {
        assert.match((await page(say(entry), under(required))).seen, /\bcat\b.*; worker true/, entry);
        // Under the name that the README gives, and with one policy for all detectors.
        const twice = `
          const { Detector } = await import("/pkg/${entry}.js");
          const seen = [await look(Detector, { worker: true }), await look(Detector, { worker: true })];
          document.title = seen.join(" and ");`;
        const allowed = await page(twice, under(`${required}; trusted-types micro-yolo`));
        assert.match(allowed.seen, /\bcat\b.*; worker true; .* and .*\bcat\b.*; worker true/, entry);
        assert.deepEqual(allowed.said, [], entry);
        const forbidden = under(`${required}; trusted-types 'none'`);
        const { seen, said } = await page(say(entry), forbidden);
        // Firefox has the policies since 148; where they are not enforced the worker starts.
        assert.match(seen, name === "chromium" ? /\bcat\b.*; worker false/ : /\bcat\b.*; worker/, entry);
        if (name === "firefox") continue;
        assert.match(said.join(), /^micro-yolo: no worker, .*Trusted/, entry);
        assert.match((await page(say(entry, "{ worker: true }"), forbidden)).seen, /^failed: worker-failed: /, entry);
      }
    });

    test("two entries in a page with Trusted Types", async () => {
      // Each module of an entry makes a policy; of one name a page may have one, unless it says otherwise.
      const both = (...entries) => `
        const seen = [];
        for (const entry of ${JSON.stringify(entries)}) {
          const { Detector } = await import("/pkg/" + entry + ".js");
          for (const _ of [1, 2]) seen.push((await look(Detector)).replace(/^.*worker (.*);.*$/, "$1"));
        }
        document.title = seen.join();`;
      const under = (policy) => ({ "content-security-policy": `require-trusted-types-for 'script'; trusted-types ${policy}` });
      const one = await page(both("index", "small"), under("micro-yolo"));
      assert.deepEqual(one, { seen: "true,true,true,true", said: [] }, "these two have modules in common");
      const allowed = await page(both("index", "inline"), under("micro-yolo 'allow-duplicates'"));
      assert.deepEqual(allowed, { seen: "true,true,true,true", said: [] });
      for (const entries of [["index", "inline"], ["inline", "small"]]) {
        const { seen, said } = await page(both(...entries), under("micro-yolo"));
        assert.equal(seen, "true,true,false,false", String(entries));
        assert.equal(said.length, 1, String(said));
        assert.match(said[0], /^micro-yolo: no worker, .*'allow-duplicates'/);
      }
    });

    test("a page whose policy allows no worker computes by itself, and says so once", async () => {
      const policy = { "content-security-policy": "worker-src 'none'; script-src 'self' 'wasm-unsafe-eval'" };
      for (const entry of ["index", "inline"]) {
        const { seen, said } = await page(`const { Detector } = await import("/pkg/${entry}.js"); await look(Detector); document.title = await look(Detector);`, policy);
        assert.match(seen, /\bcat\b.*; worker false; /, entry);
        assert.equal(said.length, 1, String(said));
        assert.match(said[0], /^micro-yolo: no worker.*worker-src/);
      }
      assert.match((await page(say("index", "{ worker: true }"), policy)).seen, /^failed: worker-failed: .*worker-src/);
      assert.deepEqual((await page(say("index", "{ worker: false }"), policy)).said, []);
    });

    test("a page whose policy allows no WebAssembly is told so", async () => {
      for (const entry of ["index", "inline"]) {
        const { seen } = await page(say(entry), { "content-security-policy": "script-src 'self'; worker-src 'self' blob:" });
        assert.match(seen, /^failed: unsupported: .*wasm-unsafe-eval/, entry);
      }
    });

    test("an isolated page whose scripts come without the header", async () => {
      const isolated = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };
      const { seen, said } = await page(say("index"), isolated);
      assert.match(seen, /\bcat\b.*; worker false/);
      assert.match(said.join(), /Cross-Origin-Embedder-Policy/);
      assert.match((await page(say("index", "{ worker: true }"), isolated)).seen, /^failed: worker-failed: .*Cross-Origin-Embedder-Policy/);
      // Without a file there is nothing that could lack it.
      assert.match((await page(say("inline"), isolated)).seen, /\bcat\b.*; worker true/);
    });

    test("a worker that says nothing is given up", async (t) => {
      const glue = "/pkg/wasm/micro_yolo_threads.js";
      // Its seconds, made shorter.
      const hurried = (options) => `
        const { setInterval } = globalThis;
        globalThis.setInterval = (work, time) => setInterval(work, time / 100);
        ${say("index", options)}`;
      // Of several imports one is missing: Firefox tells nobody.
      site.route(glue, (_, response) => response.writeHead(404).end());
      t.after(() => site.unroute(glue));
      assert.match((await page(hurried())).seen, /\bcat\b.*; worker false/);
      assert.match((await page(hurried("{ worker: true }"))).seen, /^failed: worker-failed: .*a module that it imports/);
      site.unroute(glue);
      const unanswered = [];
      site.route("/pkg/worker.js", (_, response) => void unanswered.push(response));
      t.after(() => {
        site.unroute("/pkg/worker.js");
        for (const response of unanswered) response.destroy(); // Chromium has others for the same address wait.
      });
      const { seen, said } = await page(hurried());
      assert.match(seen, /\bcat\b.*; worker false/);
      assert.match(said.join(), /does not run after 20 s: .*worker\.js could not be fetched/);
      assert.match((await page(hurried("{ worker: true }"))).seen, /^failed: worker-failed: .*worker\.js could not be fetched/);
    });

    test("a server that answers everything with its page is named, and the address", async (t) => {
      const index = (_, response) => response.writeHead(200, HTML).end("\n<!DOCTYPE html><title>app</title>");
      for (const file of ["micro_yolo_relaxed_bg.wasm", "micro_yolo_bg.wasm"]) site.route(`/pkg/wasm/${file}`, index);
      const engine = await page(say("index"));
      assert.match(engine.seen, /^failed: invalid-engine: http.*\/pkg\/wasm\/micro_yolo(_relaxed)?_bg\.wasm.*web page.*micro-yolo\/inline/);
      for (const file of ["micro_yolo_relaxed_bg.wasm", "micro_yolo_bg.wasm"]) site.unroute(`/pkg/wasm/${file}`);
      site.route("/pkg/wasm/micro-yolo-int8.onnx", index);
      t.after(() => site.unroute("/pkg/wasm/micro-yolo-int8.onnx"));
      assert.match((await page(say("index"))).seen, /^failed: invalid-model: http.*micro-yolo-int8\.onnx.*web page.*micro-yolo\/inline/);
      site.route("/pkg/worker.js", index);
      t.after(() => site.unroute("/pkg/worker.js"));
      const { seen, said } = await page(say("index", '{ model: "/pkg/package.json" }'));
      assert.match(seen, /^failed: invalid-model: \/pkg\/package\.json: /, "a file of the user's is named as such");
      assert.match(said.join(), /worker\.js was answered with a web page/);
    });

    test("a model that is more than the plain engine runs is refused with the entry that takes it", async () => {
      const model = await readFile(join(ROOT, "tests/e2e/fixtures/red-spot.onnx"));
      site.route("/red-spot.onnx", (_, response) => response.end(model));
      for (const entry of ["small", "inline"]) {
        const { seen } = await page(say(entry, '{ model: "/red-spot.onnx" }'));
        assert.match(seen, /^failed: needs-tract: \/red-spot\.onnx: .*import `micro-yolo`/);
      }
      const full = '{ wasm: "/pkg/wasm/micro_yolo_full_bg.wasm" }';
      assert.match((await page(say("small", full))).seen, /^failed: invalid-option: .*import `micro-yolo`/);
    });
  });
}

test("a browser that hides pixels is named", async (t) => {
  const browser = await launchFirefox({ "privacy.resistFingerprinting": true });
  const site = await serve({ mounts: { "/pkg/": project.home, "/": join(ROOT, "data/samples") } });
  t.after(() => Promise.all([browser.close(), site.close()]));
  site.route("/page.html", (_, response) => response.writeHead(200, HTML).end("<!doctype html><title>test</title>"));
  const page = await browser.newPage();
  await page.goto(`${site.url}page.html`);
  const said = await page.evaluate(async () => {
    const { Detector } = await import("/pkg/index.js");
    const image = new Image();
    image.src = "/cat.jpg";
    await image.decode();
    const canvas = new OffscreenCanvas(100, 100);
    canvas.getContext("2d").drawImage(image, 0, 0, 100, 100);
    const pixels = canvas.getContext("2d").getImageData(0, 0, 100, 100);
    const said = [];
    for (const worker of [true, false]) {
      const detector = await Detector.load({ worker });
      for (const source of [image, canvas, "/cat.jpg", pixels]) {
        said.push(await detector.detect(source).then(String, ({ code, message }) => `${code}: ${message}`));
      }
      // Pixels that come from no canvas are what they are.
      said.push((await detector.detect({ data: new Uint8Array(400), width: 10, height: 10 })).length);
      detector.dispose();
    }
    return said;
  });
  const hidden = said.filter((one) => one !== 0);
  assert.equal(hidden.length, 8, String(said));
  for (const one of hidden) assert.match(one, /^unsupported: .*resistFingerprinting/);
});

describe("an extension (Manifest V3)", () => {
  /** Policies of sites that are visited. */
  const STRICT = {
    "/no-wasm": "script-src 'self'",
    "/no-worker": "script-src 'self' 'wasm-unsafe-eval'",
    "/nothing": "default-src 'none'",
    "/no-types": "require-trusted-types-for 'script'; trusted-types 'none'",
  };
  let browser, id, site, folder;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "micro-yolo-extension-"));
    await cp(project.home, join(folder, "pkg"), { recursive: true });
    await cp(join(ROOT, "data/samples/cat.jpg"), join(folder, "cat.jpg"));
    const CAT = 'const CAT = chrome.runtime.getURL("cat.jpg");';
    const manifest = {
      manifest_version: 3,
      name: "test",
      version: "1",
      background: { service_worker: "background.js", type: "module" },
      content_scripts: [{ matches: ["http://127.0.0.1/*"], js: ["content.js"] }],
      web_accessible_resources: [{ resources: ["pkg/*", "cat.jpg"], matches: ["<all_urls>"] }],
      content_security_policy: { extension_pages: "script-src 'self' 'wasm-unsafe-eval'; object-src 'self'" },
    };
    const files = {
      "manifest.json": JSON.stringify(manifest),
      "background.js": `import { Detector } from "./pkg/inline.js";${CAT}${LOOK}
        chrome.runtime.onMessage.addListener((_, sender, answer) => (look(Detector).then(answer), true));`,
      "content.js": await classic("micro-yolo/inline", `${CAT}${LOOK}
        (async () => {
          const said = [await chrome.runtime.sendMessage("look"), await look(Detector)];
          for (const entry of ["index", "inline"]) {
            const { Detector } = await import(chrome.runtime.getURL("pkg/" + entry + ".js"));
            said.push(await look(Detector));
          }
          document.title = JSON.stringify(said);
        })();`),
      "panel.html": '<!doctype html><title>waiting</title><script type="module" src="panel.js"></script>',
      "panel.js": `import { Detector } from "./pkg/index.js";${CAT}${LOOK}look(Detector).then((seen) => (document.title = seen));`,
    };
    for (const [path, text] of Object.entries(files)) await writeFile(join(folder, path), text);
    site = await serve({ mounts: {} });
    const waiting = "<!doctype html><title>waiting</title>";
    site.route("/", (_, response) => response.writeHead(200, HTML).end(waiting));
    for (const [path, policy] of Object.entries(STRICT)) {
      site.route(path, (_, response) => response.writeHead(200, { ...HTML, "content-security-policy": policy }).end(waiting));
    }
    ({ browser, id } = await launchWithExtension(folder));
  });
  after(async () => {
    await browser?.close();
    await site?.close();
    await rm(folder, { recursive: true, force: true });
  });

  test("its background, its content script and its pages find the cat", async () => {
    const page = await browser.newPage();
    const [background, ...content] = JSON.parse(await whatIsSeen(page, site.url));
    assert.match(background, /\bcat\b.*; worker false/);
    assert.equal(content.length, 3, "bundled, and two entries imported");
    for (const seen of content) assert.match(seen, /\bcat\b.*; worker true/);
    assert.match(await whatIsSeen(page, `chrome-extension://${id}/panel.html`), /\bcat\b.*; worker true/);
  });

  test("the visited site's policy applies to its content script, bundled or not, and not to its background", async () => {
    const forbidden = /^failed: unsupported: .*content script.*background/;
    const expected = {
      "/no-wasm": forbidden,
      "/nothing": forbidden,
      "/no-worker": /\bcat\b.*; worker false/,
      // The site's scripts have them, the content script's world of its own has not.
      "/no-types": /\bcat\b.*; worker true/,
    };
    for (const path of Object.keys(STRICT)) {
      const page = await browser.newPage();
      const [background, ...content] = JSON.parse(await whatIsSeen(page, site.url + path.slice(1)));
      await page.close();
      assert.match(background, /\bcat\b.*; worker false/, path);
      assert.equal(content.length, 3, path);
      for (const seen of content) assert.match(seen, expected[path], path);
    }
  });
});

test("the oldest browser that is to be had", async (t) => {
  const site = await serve({ mounts: { "/pkg/": project.home, "/": join(ROOT, "data/samples") } });
  t.after(() => site.close());
  site.route("/page.html", (_, response) =>
    response.writeHead(200, HTML).end('<!doctype html><title>waiting</title><body><script type="module" src="/page.js"></script>'),
  );
  site.route("/page.js", (_, response) =>
    response.writeHead(200, SCRIPT).end(`const CAT = "/cat.jpg";${LOOK}
      const said = [navigator.userAgent.match(/Chrome.(\\d+)/)[1]];
      for (const entry of ["index", "inline"]) {
        for (const worker of [true, false]) said.push(await look((await import("/pkg/" + entry + ".js")).Detector, { worker }));
      }
      const { classColor } = await import("/pkg/draw.js");
      const context = document.createElement("canvas").getContext("2d");
      context.fillStyle = classColor(15);
      context.fillRect(0, 0, 1, 1);
      said.push(String([...context.getImageData(0, 0, 1, 1).data]));
      await import("/pkg/element.js");
      const element = document.body.appendChild(document.createElement("micro-yolo"));
      element.append(Object.assign(new Image(), { src: "/cat.jpg" }));
      said.push(await new Promise((resolve) => {
        element.addEventListener("detect", ({ detail }) => resolve(detail.objects[0].label));
        element.addEventListener("detect-error", ({ detail }) => resolve(detail.error.message));
      }));
      document.title = JSON.stringify(said);`),
  );
  const { browser, close } = await launchOldChromium();
  t.after(close);
  const said = JSON.parse(await whatIsSeen(await browser.newPage(), `${site.url}page.html`));
  assert.equal(said[0], "103");
  for (const [at, worker] of [true, false, true, false].entries()) {
    assert.match(said[at + 1], new RegExp(`\\bcat\\b.*; worker ${worker}; simd128`), String(said));
  }
  assert.deepEqual(said.slice(5), ["255,161,98,255", "cat"]);
});
