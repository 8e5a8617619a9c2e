import { Detector } from "micro-yolo";

async function main() {
  const detector = await Detector.load({ scoreThreshold: 0.4 });
  const objects = await detector.detect(document.querySelector("img"));
  document.querySelector("pre").textContent = JSON.stringify(objects, null, 2);
}

main();
