// The page: sources on the left, what was found on the right, one place for problems.
import { Detector } from "./pkg/index.js";
import { classColor, drawObjects } from "./pkg/draw.js";
import { closeCamera, listCameras, openCamera } from "./camera.js";
import { duration, explain, explainCamera, megabytes, summary } from "./words.js";

/** The detector reports from here on; the slider hides the rest at once, without looking again. */
const LEAST_SCORE = 0.1;
/** A screen reader shall not be talked over: so long a summary stands before the next. */
const SUMMARY_MS = 2500;

const $ = (id) => document.getElementById(id);
const stage = $("stage");
const picture = $("picture");
const video = $("video");
const boxes = $("boxes");
const slider = $("threshold");

/** What is shown now. `run` counts, so that an answer which comes too late is known as such. */
const shown = { run: 0, objects: [], width: 0, height: 0, mirrored: false, stop: new AbortController() };

// ------------------------------------------------------------------------------------------------ the detector

let detector = load();

async function load() {
  $("loading").hidden = false;
  try {
    return await Detector.load({
      scoreThreshold: LEAST_SCORE,
      onProgress(progress) {
        $("loading-text").textContent = `Loading the detector: ${megabytes(progress)}`;
        if (progress.total) {
          $("progress").max = progress.total;
          $("progress").value = progress.loaded;
        } else {
          $("progress").removeAttribute("value");
        }
        if (progress.loaded === progress.total) $("loading-text").textContent = "Getting the detector ready";
      },
    });
  } catch (error) {
    report(explain(error), error.code === "network" || error.code === "crashed" ? reload : undefined);
    throw error;
  } finally {
    $("loading").hidden = true;
  }
}
detector.catch(() => {}); // Said already; who needs the detector meets the failure again.

/** Loads once more, then looks again at what is shown. */
function reload() {
  clearProblem();
  detector = load();
  detector.catch(() => {});
  shown.again?.();
}

// ------------------------------------------------------------------------------------------------ what to look at

/** Ends what is shown and makes room for the next. */
function begin(kind) {
  clearProblem();
  shown.stop.abort();
  shown.stop = new AbortController();
  shown.run += 1;
  Object.assign(shown, { objects: [], width: 0, height: 0, mirrored: false, again: undefined, timing: newTiming() });
  const usesCamera = kind === "camera";
  $("camera").textContent = usesCamera ? "Stop the camera" : "Use the camera";
  $("camera").setAttribute("aria-pressed", String(usesCamera));
  if (!usesCamera) $("camera-choice").hidden = true;
  picture.hidden = kind !== "picture";
  video.hidden = kind !== "camera" && kind !== "video";
  video.controls = kind === "video";
  video.classList.remove("mirrored");
  stage.dataset.showing = kind;
  stage.style.aspectRatio = "";
  // On a phone the samples are below what they are shown in.
  if (kind !== "nothing") stage.scrollIntoView({ block: "nearest" });
  showObjects();
  speak(kind === "nothing" ? "Nothing yet." : "Looking …", true);
  return { run: shown.run, signal: shown.stop.signal };
}

function showNothing() {
  begin("nothing");
}

/** Shows the picture behind `url` and looks at it once. */
async function showPicture(url, name) {
  const { run, signal } = begin("picture");
  const loaded = once(picture, "load", signal);
  picture.src = url;
  picture.alt = name;
  try {
    await loaded;
  } catch {
    if (run === shown.run) fail({ code: "invalid-image" });
    return;
  }
  if (run !== shown.run) return;
  stage.style.aspectRatio = `${picture.naturalWidth} / ${picture.naturalHeight}`;
  shown.again = look;
  await look();

  async function look() {
    try {
      const ready = await detector;
      const started = performance.now();
      const objects = await ready.detect(picture, { signal });
      $("time").textContent = duration(performance.now() - started);
      $("rate").textContent = "–";
      take(objects, picture.naturalWidth, picture.naturalHeight);
    } catch (error) {
      if (run === shown.run) fail(error);
    }
  }
}

/** Looks at the playing video until the next thing is shown. */
async function watch({ run, signal }) {
  try {
    const ready = await detector;
    for await (const { objects, frame } of ready.watch(video, { signal })) {
      if (run !== shown.run) return;
      shown.timing.add(frame.milliseconds);
      take(objects, frame.width, frame.height);
    }
    if (run === shown.run && stage.dataset.showing === "camera") {
      showNothing();
      report("The camera stopped. Was it unplugged?");
    }
  } catch (error) {
    if (run === shown.run) fail(error);
  }
}

async function showVideo(url) {
  const now = begin("video");
  video.srcObject = null;
  video.loop = true;
  video.src = url;
  now.signal.addEventListener("abort", () => {
    video.pause();
    video.removeAttribute("src");
    video.load();
  });
  try {
    await once(video, "loadeddata", now.signal);
    // Refused where the browser's settings forbid it: then the controls start it.
    video.play().catch(() => {});
  } catch {
    if (now.run === shown.run) fail({ code: "invalid-image" });
    return;
  }
  stage.style.aspectRatio = `${video.videoWidth} / ${video.videoHeight}`;
  shown.again = () => watch(now);
  await watch(now);
}

async function showCamera(id) {
  const now = begin("camera");
  let camera;
  try {
    camera = await openCamera(id);
  } catch (error) {
    if (now.run !== shown.run) return;
    showNothing();
    report(explainCamera(error));
    return;
  }
  if (now.run !== shown.run) {
    closeCamera(camera.stream); // Something else was chosen while the browser asked for permission.
    return;
  }
  now.signal.addEventListener("abort", () => {
    closeCamera(camera.stream);
    video.srcObject = null;
  });
  shown.mirrored = camera.mirrored;
  video.classList.toggle("mirrored", camera.mirrored);
  video.removeAttribute("src");
  video.srcObject = camera.stream;
  void offerCameras(camera.id, now.run);
  try {
    await video.play();
  } catch (error) {
    if (now.run === shown.run) fail(error);
    return;
  }
  stage.style.aspectRatio = `${video.videoWidth} / ${video.videoHeight}`;
  shown.again = () => watch(now);
  await watch(now);
}

async function offerCameras(current, run) {
  const cameras = await listCameras();
  if (run !== shown.run) return;
  $("camera-select").replaceChildren(
    ...cameras.map(({ id, name }) => new Option(name, id, id === current, id === current)),
  );
  $("camera-choice").hidden = cameras.length < 2;
}

/** A file from the dialog, a drop or the clipboard. */
function showFile(file) {
  const url = URL.createObjectURL(file);
  const showing = file.type.startsWith("video/") ? showVideo(url) : showPicture(url, file.name);
  // Not before it is no longer shown: a video is read as it plays, a picture again when it is saved.
  shown.stop.signal.addEventListener("abort", () => URL.revokeObjectURL(url));
  return showing;
}

// ------------------------------------------------------------------------------------------------ what was found

function take(objects, width, height) {
  Object.assign(shown, { objects, width, height });
  showObjects();
  speak(summary(visible()));
}

function visible() {
  const least = Number(slider.value) / 100;
  return shown.objects.filter((object) => object.score >= least);
}

function showObjects() {
  const objects = visible();
  const { width, height, mirrored } = shown;
  drawObjects(boxes, objects, { width, height, fit: "contain", mirror: mirrored });
  $("list").replaceChildren(
    ...objects.map(({ label, classId, score }) => {
      const swatch = Object.assign(document.createElement("span"), { className: "swatch" });
      swatch.style.background = classColor(classId);
      const text = Object.assign(document.createElement("span"), { className: "label", textContent: label });
      const percent = `${Math.round(score * 100)} %`;
      const sure = Object.assign(document.createElement("span"), { className: "score", textContent: percent });
      const item = document.createElement("li");
      item.append(swatch, text, sure);
      return item;
    }),
  );
  $("save").disabled = $("copy").disabled = !width;
}

const speech = { last: 0, next: undefined };

/** Says `text` in the live region: at once, or when the last sentence has stood long enough. */
function speak(text, atOnce = false) {
  clearTimeout(speech.next);
  const wait = atOnce || shown.timing?.count < 2 ? 0 : speech.last + SUMMARY_MS - performance.now();
  const say = () => {
    if ($("summary").textContent === text) return;
    $("summary").textContent = text;
    speech.last = performance.now();
  };
  if (wait <= 0) say();
  else speech.next = setTimeout(say, wait);
}

/** Time a frame and frames a second, averaged over about a second and shown four times as often. */
function newTiming() {
  const ends = [];
  let milliseconds;
  let painted = 0;
  $("time").textContent = $("rate").textContent = "–";
  return {
    count: 0,
    add(last) {
      this.count += 1;
      const now = performance.now();
      milliseconds = milliseconds === undefined ? last : milliseconds + (last - milliseconds) * 0.1;
      ends.push(now);
      while (ends[0] < now - 2000) ends.shift();
      if (now - painted < 250 || ends.length < 2) return;
      painted = now;
      $("time").textContent = duration(milliseconds);
      $("rate").textContent = (((ends.length - 1) * 1000) / (now - ends[0])).toFixed(1);
    },
  };
}

// ------------------------------------------------------------------------------------------------ problems

/** What is shown cannot be looked at. */
function fail(error) {
  if (error.code === "aborted") return;
  speak("", true);
  // The loading of the detector speaks for itself.
  if ($("problem").hidden) report(explain(error), error.code === "crashed" ? reload : undefined);
  console.error(error);
}

function report(text, retry) {
  $("problem-text").textContent = text;
  $("problem").hidden = false;
  $("retry").hidden = !retry;
  $("retry").onclick = retry ?? null;
}

function clearProblem() {
  $("problem").hidden = true;
  $("problem-text").textContent = "";
}

function once(target, event, signal) {
  return new Promise((resolve, reject) => {
    target.addEventListener(event, resolve, { once: true, signal });
    target.addEventListener("error", reject, { once: true, signal });
    signal.addEventListener("abort", reject, { once: true });
  });
}

// ------------------------------------------------------------------------------------------------ controls

$("camera").addEventListener("click", () => (stage.dataset.showing === "camera" ? showNothing() : void showCamera()));
$("camera-select").addEventListener("change", (event) => void showCamera(event.target.value));

$("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = ""; // So that the same file can be chosen again.
  if (file) void showFile(file);
});

for (const sample of document.querySelectorAll(".sample")) {
  const { sample: name } = sample.dataset;
  sample.addEventListener("click", () => void showPicture(`./samples/${name}`, sample.innerText.trim()));
}

slider.addEventListener("input", () => {
  $("threshold-text").textContent = `${slider.value} %`;
  showObjects();
  if (shown.width) speak(summary(visible()));
});

let dragDepth = 0; // Entering a child counts as leaving its parent.
const setDropping = (depth) => {
  dragDepth = Math.max(0, depth);
  stage.classList.toggle("dropping", dragDepth > 0);
};
const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => holdsFiles(event) && setDropping(dragDepth + 1));
addEventListener("dragleave", (event) => holdsFiles(event) && setDropping(dragDepth - 1));
addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
addEventListener("drop", (event) => {
  setDropping(0);
  if (!holdsFiles(event)) return;
  event.preventDefault(); // Or the browser leaves the page to open the file.
  showFirst(event.dataTransfer.files);
});
addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) showFirst(event.clipboardData.files);
});

function showFirst(files) {
  const file = [...files].find(({ type }) => /^(image|video)\//.test(type)) ?? files[0];
  if (file) void showFile(file);
}

$("save").addEventListener("click", () => {
  const { width, height, mirrored } = shown;
  const canvas = new OffscreenCanvas(width, height);
  const overlay = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  if (mirrored) context.setTransform(-1, 0, 0, 1, width, 0);
  context.drawImage(picture.hidden ? video : picture, 0, 0, width, height);
  context.resetTransform();
  // Lines as thick as they look on the screen.
  const pixelRatio = Math.max(1, width / Math.max(1, stage.clientWidth), height / Math.max(1, stage.clientHeight));
  drawObjects(overlay, visible(), { width, height, mirror: mirrored, pixelRatio });
  context.drawImage(overlay, 0, 0);
  canvas.convertToBlob({ type: "image/png" }).then((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = "micro-yolo.png";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
});

$("copy").addEventListener("click", async () => {
  const { width, height } = shown;
  const json = JSON.stringify({ width, height, objects: visible() }, null, 2);
  try {
    await navigator.clipboard.writeText(json);
    note($("copy"), "Copied");
  } catch {
    report("The browser did not let the page copy. Click into the page and try again.");
  }
});

/** Shows `text` on a button for a moment. */
function note(button, text) {
  const before = (button.dataset.text ??= button.textContent);
  button.textContent = text;
  setTimeout(() => (button.textContent = before), 1500);
}

new ResizeObserver(() => showObjects()).observe(stage);
// Another screen, or the page's zoom.
addEventListener("resize", () => showObjects());
