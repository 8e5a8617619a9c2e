// The results that documents print: what the package's model finds in data/samples/cat.jpg, from 40 % on.
// `node scripts/printed.mjs` writes them anew, after the model is exchanged; the tests compare them by `printed` and `found`.
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import jpeg from "jpeg-js";
import { Detector } from "../pkg/index.js";

const at = (path) => new URL(`../${path}`, import.meta.url);
const DOCUMENTS = ["pkg/README.md", "pkg/index.d.ts", "README.md"];
const RESULT = /\/\/ \[\{ label: "(\w+)", classId: (\d+), score: ([\d.]+), box: \{ x: (\d+), y: (\d+), width: (\d+), height: (\d+) \} \}/g;

/** What the documents print, with the file that it stands in. */
export async function printed() {
  const all = [];
  for (const file of DOCUMENTS) {
    for (const [, label, classId, ...numbers] of (await readFile(at(file), "utf8")).matchAll(RESULT)) {
      const [score, x, y, width, height] = numbers.map(Number);
      all.push({ file, label, classId: Number(classId), score, box: { x, y, width, height } });
    }
  }
  return all;
}

/** What is found now. */
export async function found() {
  const model = (await readFile(at("pkg/parts-small.js"), "utf8")).match(/wasm\/([\w-]+\.onnx)/)[1];
  const options = { wasm: await readFile(at("pkg/wasm/micro_yolo_bg.wasm")), model: await readFile(at(`models/${model}`)) };
  const detector = await Detector.load({ ...options, worker: false, scoreThreshold: 0.4 });
  const objects = await detector.detect(jpeg.decode(await readFile(at("data/samples/cat.jpg")), { useTArray: true }));
  detector.dispose();
  return objects;
}

async function write() {
  const [{ label, classId, score, box }] = await found();
  const sides = ["x", "y", "width", "height"].map((side) => `${side}: ${Math.round(box[side])}`).join(", ");
  const text = `// [{ label: "${label}", classId: ${classId}, score: ${score.toFixed(2)}, box: { ${sides} } }`;
  for (const file of DOCUMENTS) await writeFile(at(file), (await readFile(at(file), "utf8")).replace(RESULT, text));
  console.log(text);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await write();
