// node_modules/micro-yolo/inline.js, copied here.
import { Detector } from "./inline.js";

const loading = Detector.load({ scoreThreshold: 0.4 });

async function labels(address) {
  const detector = await loading;
  const picture = await (await fetch(address)).blob();
  return (await detector.detect(picture)).map(({ label }) => label);
}

chrome.runtime.onMessage.addListener((address, sender, answer) => {
  labels(address).then(answer, (error) => answer([error.message]));
  return true; // The answer comes later.
});
