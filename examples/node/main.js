import { readFile } from "node:fs/promises";
import jpeg from "jpeg-js";
import { Detector } from "micro-yolo";

const detector = await Detector.load({ scoreThreshold: 0.4 });
for (const path of process.argv.slice(2)) {
  const objects = await detector.detect(jpeg.decode(await readFile(path), { useTArray: true }));
  console.log(path, objects);
}
