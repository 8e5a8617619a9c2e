// How many frames of a video a page sees, and how long its own thread is kept from other work, in headless Chromium.
//
//   cargo xtask build
//   node benches/browser/video.mjs [--seconds N] [--width 1280 --height 720] [--image data/samples/cat.jpg]
//
// The video is recorded in the page itself, a photograph panned across, and then played in a loop while
// `detector.watch` follows it in a worker. What that costs the page's own thread is what Chromium counts as time of its tasks
// (processor time of the thread, so that other programs do not count), less what the playing alone costs.
import { cpus } from "node:os";
import { parseArgs } from "node:util";

import { launchChromium } from "../../tests/e2e/lib/browsers.mjs";
import { serve } from "../../tests/e2e/lib/server.mjs";

const { values: options } = parseArgs({
  options: {
    seconds: { type: "string", default: "8" },
    width: { type: "string", default: "1280" },
    height: { type: "string", default: "720" },
    image: { type: "string", default: "data/samples/cat.jpg" },
  },
});
const server = await serve({ mounts: { "/": "." } });
server.route("/", (_request, response) => {
  response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>video</title><body>");
});

const flags = ["--disable-gpu", "--autoplay-policy=no-user-gesture-required"];
const browser = await launchChromium(flags, { protocolTimeout: 0 }); // However long it watches.
const version = (await browser.version()).replace(/^.*\//, "");

/** In the page: records the video, plays it, and leaves `watch` behind. */
async function prepare({ width, height, image }) {
  const picture = new Image();
  picture.src = image;
  await picture.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  const recorder = new MediaRecorder(canvas.captureStream(30), { videoBitsPerSecond: 8e6 });
  const chunks = [];
  recorder.ondataavailable = ({ data }) => chunks.push(data);
  recorder.start();
  const begun = performance.now();
  while (performance.now() - begun < 3000) {
    const shift = 0.2 * Math.sin((performance.now() - begun) / 500);
    context.drawImage(picture, -width * (0.2 + shift), -height * 0.2, width * 1.4, height * 1.4);
    await new Promise(requestAnimationFrame);
  }
  const stopped = new Promise((done) => (recorder.onstop = done));
  recorder.stop();
  await stopped;
  const video = Object.assign(document.createElement("video"), { muted: true, loop: true });
  video.src = URL.createObjectURL(new Blob(chunks, { type: recorder.mimeType }));
  document.body.append(video);
  await video.play();

  globalThis.watch = async ({ seconds, ...load }) => {
    const { Detector } = await import("/pkg/index.js");
    const detector = await Detector.load(load);
    await detector.detect(video);
    const controller = new AbortController();
    const times = [];
    await globalThis.count(); // The driver's own way into the page is part of neither figure.
    const begun = performance.now();
    setTimeout(() => controller.abort(), seconds * 1000);
    for await (const { frame } of detector.watch(video, { signal: controller.signal })) times.push(frame.milliseconds);
    const took = (performance.now() - begun) / 1000;
    const busy = await globalThis.count();
    const name = `${detector.build}, ${detector.inputSize.width} px`;
    detector.dispose();
    times.sort((a, b) => a - b);
    return { name, frames: times.length, took, milliseconds: times[times.length >> 1], busy };
  };
}

try {
  const page = await browser.newPage();
  await page.goto(server.url);
  const model = { f32: "/models/micro-yolo.onnx", int8: "/models/micro-yolo-int8.onnx" };
  const simd128 = "/pkg/wasm/micro_yolo_full_bg.wasm";
  const runs = [
    { name: "f32", model: model.f32, inputSize: 416, wasm: simd128 },
    { name: "f32", model: model.f32, inputSize: 416 },
    { name: "int8", model: model.int8, inputSize: 416 },
    { name: "int8", model: model.int8, inputSize: 320 },
  ];
  const seconds = Number(options.seconds);
  const session = await page.createCDPSession();
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  let last = 0;
  /** Milliseconds of the page's thread since the last call. */
  await page.exposeFunction("count", async () => {
    const { metrics } = await session.send("Performance.getMetrics");
    const now = 1000 * metrics.find(({ name }) => name === "TaskDuration").value;
    const since = now - last;
    last = now;
    return since;
  });
  const size = { width: Number(options.width), height: Number(options.height) };
  await page.evaluate(prepare, { ...size, image: `/${options.image}` });
  const idle = await page.evaluate(async (seconds) => {
    await globalThis.count();
    await new Promise((done) => setTimeout(done, seconds * 1000));
    return (await globalThis.count()) / seconds;
  }, seconds);
  console.log(`${cpus()[0].model}, Chromium ${version}, ${options.width} x ${options.height} at 30 frames/s`);
  console.log(`the page's thread without a detector: ${idle.toFixed(1)} ms a second`);
  console.log(`${"detector".padEnd(30)}${"frames/s".padStart(10)}${"ms a frame".padStart(12)}${"page's thread".padStart(15)}`);
  for (const { name, ...load } of runs) {
    const row = await page.evaluate((job) => globalThis.watch(job), { seconds, ...load });
    const own = Math.max(0, row.busy - idle * row.took) / row.frames;
    const figures = [(row.frames / row.took).toFixed(1).padStart(10), row.milliseconds.toFixed(1).padStart(12)];
    console.log(`${name}, ${row.name}`.padEnd(30) + figures.join("") + own.toFixed(2).padStart(15));
  }
} finally {
  await browser.close();
  await server.close();
}
