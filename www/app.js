// Sets up the page: sources on the left, results on the right, one place for error messages.
import { ClassFilter } from "./classes.js";
import { createPalette } from "./pkg/draw.js";
import { FORMATS, fileName, momentName } from "./export.js";
import { filesIn, isModelFile, isReadable, isVideoFile, recognise } from "./files.js";
import { MODELS, addOwn, allModels, modelOf, optionText } from "./models.js";
import { keepOffline } from "./offline.js";
import { newCanvas, toPng } from "./overlay.js";
import { Pane } from "./pane.js";
import { Player } from "./player.js";
import { addressIn, fetchAddress } from "./remote.js";
import { SAMPLES, sampleOf } from "./samples.js";
import { DEFAULTS, SIZES, remember, remembered } from "./settings.js";
import { fromHash, toHash } from "./share.js";
import { createSpeaker } from "./speech.js";
import { Strip } from "./strip.js";
import { explain, explainCamera, explainOwnModel } from "./words.js";

/** @type {(id: string) => any} */
const $ = (id) => document.getElementById(id);

/** @type {import("./settings.js").Settings} */
const settings = { ...DEFAULTS };
const speak = createSpeaker($("spoken"));
const color = createPalette();
const first = new Pane("", { color, settings: () => settings });
const second = new Pane("-b", { color, settings: () => settings });
const panes = () => (settings.compare ? [first, second] : [first]);

// ------------------------------------------------------------------------------------------------ problems

function report(text, retry) {
  $("problem-text").textContent = text;
  $("problem").hidden = false;
  $("retry").hidden = !retry;
  $("retry").onclick = retry ?? null;
  // On a phone, what was done may be far below.
  $("problem").scrollIntoView({ block: "nearest" });
}

/** Takes back a message about an earlier action. That a model does not load stays true. */
function clearProblem() {
  $("problem").hidden = true;
  $("problem-text").textContent = "";
  for (const pane of panes()) pane.sayFailure?.();
}

// ------------------------------------------------------------------------------------------------ models

/** The names of the settings of a pane. */
const namesOf = (pane) => (pane === first ? { id: "model", size: "size" } : { id: "model2", size: "size2" });
const isOwn = (id) => !MODELS.some((model) => model.id === id);

async function load(pane) {
  const names = namesOf(pane);
  const [id, size] = [settings[names.id], settings[names.size]];
  pane.sayFailure = undefined;
  stopUnwanted();
  try {
    await pane.load(modelOf(id) ?? modelFromAddress(id), size);
    pane.works = { id, size };
    classFilter.know([...new Set(panes().flatMap(({ labels }) => labels))]);
    void keepOffline({ state: $("offline-state"), update: $("update"), updateNow: $("update-now") });
  } catch (error) {
    // Another model was chosen meanwhile.
    if (error?.code === "aborted" || error?.name === "AbortError" || settings[names.id] !== id) return;
    console.error(error);
    if (!isOwn(id)) {
      pane.sayFailure = () => report(explain(error), ["network", "crashed"].includes(error.code) ? () => retry(pane) : undefined);
      pane.sayFailure();
      return;
    }
    const { source } = modelOf(id) ?? {};
    const isGone = source instanceof Blob && !(await isReadable(source));
    if (settings[names.id] !== id || settings[names.size] !== size) return;
    const resized = pane.works?.id === id && size !== pane.works.size;
    const text = isGone ? explain({ code: "file-unreadable" }) : explainOwnModel(error, resized);
    // What has worked once need not work again.
    const works = !pane.works || isGone || (pane.works.id === id && !resized) ? { id: DEFAULTS[names.id], size: 0 } : pane.works;
    choose(pane, works.id, works.size);
    report(`${modelOf(id)?.name ?? id}: ${text}`);
  }
}

/**
 * Models that are being downloaded, by URL: both panes may wait for one.
 * @type {Map<string, { model: Promise<import("./models.js").Model>, abort: AbortController }>}
 */
const coming = new Map();

async function modelFromAddress(id) {
  const url = addressIn(id);
  if (!url) throw Object.assign(new Error(`no model ${id}`), { code: "address" });
  if (!coming.has(id)) {
    const abort = new AbortController();
    coming.set(id, { abort, model: fetchModel(url, id, abort.signal) });
  }
  return coming.get(id).model;
}

async function fetchModel(url, id, signal) {
  try {
    const blob = await fetchAddress(url, signal);
    const model = addOwn({ name: blob.name, blob, url: id });
    showSettings();
    return model;
  } finally {
    if (!signal.aborted) coming.delete(id);
  }
}

/** Stops downloads of models for which no pane waits. */
function stopUnwanted() {
  const wanted = panes().map((pane) => settings[namesOf(pane).id]);
  for (const [id, { abort }] of coming) {
    if (wanted.includes(id)) continue;
    coming.delete(id);
    abort.abort();
  }
}

/** Loads the model of a pane again, and any other that failed to load. */
function retry(pane) {
  for (const one of panes()) if (one === pane || one.sayFailure) void load(one);
  clearProblem();
  lookAgain();
}

/** Sets another model or input size for a pane, which then detects again. */
function choose(pane, id, size) {
  const names = namesOf(pane);
  settings[names.id] = id;
  settings[names.size] = size;
  changed();
  void load(pane);
  clearProblem();
  lookAgain();
}

/**
 * Opens the visitor's model, or compares the first two.
 * @param {(Blob & { name: string })[]} blobs
 * @param {string} [url] the origin of a single one
 */
function openModels(blobs, url) {
  const [id, other] = blobs.slice(0, 2).map((blob) => addOwn({ name: blob.name, blob, url }).id);
  if (other) {
    Object.assign(settings, { model2: other, size2: 0 });
    setCompare(true);
    choose(first, id, 0);
  } else {
    // In a comparison, the first pane keeps its model for comparison with the new one.
    choose(settings.compare ? second : first, id, 0);
  }
}

// ------------------------------------------------------------------------------------------------ what to look at

/** @type {AbortController | undefined} of the URL or the files that are read */
let fetching;

function stopFetching() {
  fetching?.abort();
  fetching = undefined;
}

const player = new Player(
  { stage: $("stage"), picture: $("picture"), video: $("video") },
  {
    panes,
    track: () => settings.track,
    onOpen() {
      clearProblem();
      stopFetching();
      showSource();
      speak("Looking …", true);
    },
    onOpened() {
      showSource();
      freeFiles();
      speak("", true);
    },
    onRefused(error, source) {
      // If no model works, that is the first thing to know.
      if (panes().some((pane) => pane.sayFailure)) return;
      report(nameFile(source, explain(error)));
      console.error(error);
    },
    onBegin(kind) {
      if (kind === "nothing") {
        clearProblem();
        stopFetching();
      }
      if (kind !== "camera") $("camera-choice").hidden = true;
      const { file } = player.source ?? {};
      if (file && !files.includes(file)) fillStrip([file]);
      showSource();
      freeFiles();
      showSettings();
      offerExport();
      speak(kind === "nothing" ? "" : "Looking …", true);
    },
    onTake() {
      offerExport();
      speak(spoken(), !player.moves);
    },
    onFail(error, pane) {
      if (error?.code === "aborted" || error?.code === "disposed") return;
      speak("", true);
      for (const one of pane ? [pane] : panes()) one.giveUp();
      offerExport();
      // While a model loads, its progress is reported instead.
      if (!$("problem").hidden || pane?.sayFailure) return;
      const own = pane?.model && isOwn(pane.model.id);
      const said = own ? explainOwnModel(error) : explain(error);
      const text = OF_SOURCES.includes(error?.code) ? nameFile(player.source, said) : said;
      const say = () => report(text, error.code === "crashed" && pane ? () => retry(pane) : undefined);
      if (error.code === "crashed" && pane) pane.sayFailure = say; // It detects nothing else either.
      say();
      console.error(error);
    },
    onNoCamera: (error) => report(explainCamera(error)),
    onCameraEnd: () => report("The camera stopped. Was it unplugged?"),
    onCameras(cameras, current) {
      offer($("camera-select"), cameras.map(({ id, name }) => [id, name]), current);
      const isFocused = document.activeElement === $("camera-select");
      $("camera-choice").hidden = cameras.length < 2;
      if (isFocused && cameras.length < 2) $("camera").focus();
    },
  },
);

/** Codes of errors for which the shown picture or video is the reason. */
const OF_SOURCES = ["invalid-image", "image-too-large", "tainted", "video-breaks-off"];

/** A message about a source, which names it if it is a file of the visitor. */
const nameFile = (source, text) => (source?.file ? `${source.name}: ${text}` : text);

/** Whether the camera runs, or is to run. */
const usesCamera = () => player.kind === "camera" || player.opening?.kind === "camera";

/** Shows in the buttons and strips what is being opened, or else what is shown. */
function showSource() {
  const { source } = player.opening ?? player;
  const isBusy = Boolean(fetching ?? player.opening);
  $("main").setAttribute("aria-busy", String(isBusy));
  $("open").textContent = fetching ? "Opening …" : "Open";
  $("clear").disabled = player.kind === "nothing" && !isBusy; // It also cancels.
  $("camera").textContent = usesCamera() ? "Stop the camera" : "Use the camera";
  samples.mark(source?.shareable?.kind === "sample" ? SAMPLES.findIndex(({ id }) => id === source.shareable.name) : -1);
  mine.mark(files.findIndex((file) => file === source?.file));
}

function lookAgain() {
  player.lookAgain();
  offerExport(); // In a video there is nothing until the next frame.
}

/** The text for screen readers: one sentence for each model. Not the guesses in a video, which change in every frame. */
function spoken() {
  const guesses = !player.moves;
  if (!settings.compare) return first.sentence({ guesses });
  return panes()
    .filter(({ size }) => size.width)
    .map((pane) => `${pane.by.model}: ${pane.sentence({ guesses })}`)
    .join(" ");
}

/** On a phone, the samples are below the stage on which they are shown. */
const reveal = () => $("stage").scrollIntoView({ block: "nearest" });

function showSample(id) {
  const { file, name } = sampleOf(id);
  const source = { name: file.split("/").at(-1), alt: name, shareable: { kind: "sample", name: id } };
  const url = `./samples/${file}`;
  if (isVideoFile({ name: file })) void player.showVideo(url, source);
  else void player.showPicture(url, source);
}

const samples = new Strip($("samples-list"));
const mine = new Strip($("mine-list"));
/**
 * A file of the visitor, with the URL at which this page shows it.
 * @typedef {{ name: string, blob: Blob, isVideo: boolean, isKnown: boolean, url: string, from?: string }} Own
 */
/** @type {Own[]} in the strip */
let files = [];
/** @type {Set<Own>} whose URLs may be in use */
const opened = new Set();

/**
 * Opens files from the dialog, a drop, the clipboard or a URL.
 * @param {Iterable<File>} given
 * @param {string} [url] their origin
 */
async function openFiles(given, url) {
  const all = [...given];
  const models = all.filter(isModelFile);
  const others = all.filter((file) => !isModelFile(file));
  let shown = [];
  if (others.length) {
    stopFetching();
    fetching = new AbortController();
    const { signal } = fetching;
    shown = await Promise.all(others.map(async (file) => ({ name: file.name, ...(await recognise(file)) })));
    if (signal.aborted) return; // Something else was chosen.
    stopFetching();
    showSource();
  }
  if (models.length) openModels(models, url);
  // Other files next to a model, such as names or a licence, are not pictures to show.
  if (models.length) shown = shown.filter(({ isKnown }) => isKnown);
  if (shown.length) openPictures(shown.map((one) => ({ ...one, url: URL.createObjectURL(one.blob), from: url })));
  if (models.length > 2) report(`Two models can be compared: ${models[0].name} and ${models[1].name}. The others were left out.`);
}

/**
 * Opens pictures and videos, and shows the first.
 * @param {Own[]} all
 */
function openPictures(all) {
  for (const one of all) opened.add(one);
  // A single file that cannot be opened does not replace those in the strip.
  if (all.length > 1) fillStrip(all);
  // If a text file was dropped too, only pictures are shown.
  showFile(all.find(({ isKnown }) => isKnown) ?? all[0]);
}

/** @param {Own[]} all */
function fillStrip(all) {
  files = all;
  mine.fill(
    files.map((one) => ({
      name: one.name,
      thumb: one.isVideo ? undefined : one.url,
      show: () => {
        showFile(one);
        reveal();
      },
    })),
  );
  $("mine").hidden = files.length < 2;
}

/** Frees the files that are neither in the strip nor on the stage. */
function freeFiles() {
  const used = new Set([...files, player.source?.file, player.opening?.source.file]);
  for (const one of opened) {
    if (used.has(one)) continue;
    URL.revokeObjectURL(one.url);
    opened.delete(one);
  }
}

/** @param {Own} one */
function showFile(one) {
  const { name, blob, url, from, isVideo } = one;
  const source = { name, alt: name, file: one, blob, shareable: from ? { kind: "url", url: from } : undefined };
  if (isVideo) void player.showVideo(url, source);
  else void player.showPicture(url, source);
}

/** @param {string} text */
async function openAddress(text) {
  const url = addressIn(text);
  if (!url) return report(explain({ code: "address" })); // A fetch in progress continues.
  stopFetching();
  fetching = new AbortController();
  const { signal } = fetching;
  player.cancel();
  clearProblem();
  try {
    const file = await fetchAddress(url, signal);
    if (signal.aborted) return;
    stopFetching();
    showSource();
    void openFiles([file], url.href);
  } catch (error) {
    if (signal.aborted) return;
    stopFetching();
    showSource();
    report(explain(error));
  }
}

// ------------------------------------------------------------------------------------------------ settings

const classFilter = new ClassFilter(
  { form: $("class-form"), input: $("class-input"), options: $("class-options"), chips: $("chips") },
  (classes) => {
    settings.classes = classes;
    changed();
    refresh();
  },
);

function changed() {
  remember(settings);
  showSettings();
}

function refresh() {
  for (const pane of panes()) pane.refresh();
  offerExport();
  if (first.size.width) speak(spoken());
}

/** Sets the options of a list only if they changed: an open list would close. */
function offer(select, options, value) {
  const text = JSON.stringify(options);
  if (select.dataset.options !== text) {
    select.dataset.options = text;
    select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  }
  select.value = value;
}

/** Shows the settings in the controls. */
function showSettings() {
  const { score, iou, compare, track, classes } = settings;
  for (const [name, value] of Object.entries({ score, iou })) {
    $(name).value = String(value);
    $(name).setAttribute("aria-valuetext", `${value} %`);
    $(`${name}-text`).textContent = `${value} %`;
  }
  for (const [suffix, id, size] of [["", settings.model, settings.size], ["-b", settings.model2, settings.size2]]) {
    const models = allModels().map((model) => [model.id, optionText(model)]);
    if (!modelOf(id)) models.push([id, "Loading …"]);
    offer($(`model${suffix}`), models, id);
    offer($(`size${suffix}`), [["0", "the model’s own"], ...SIZES.map((side) => [String(side), `${side} × ${side} px`])], String(size));
  }
  $("compare").checked = compare;
  $("track").checked = track;
  // Tracking needs its own frame loop per model, so it is off in a comparison.
  $("track").disabled = compare;
  classFilter.set(classes);
  for (const id of ["stage-b", "result-b", "second", "name", "tag", "track-note"]) $(id).hidden = !compare;
  $("main").classList.toggle("comparing", compare);
  offerExport();
}

function setCompare(compare) {
  settings.compare = compare;
  changed();
  if (compare) {
    second.begin({ mirrored: player.mirrored, saying: player.kind === "nothing" ? "Nothing yet." : "Looking …" });
    void load(second);
  } else {
    second.sayFailure = undefined;
    second.unload();
    stopUnwanted();
  }
  clearProblem();
  lookAgain();
}

function setIou(value) {
  settings.iou = value;
  changed();
  for (const pane of panes()) {
    pane.detector.then(
      (detector) => (detector.iouThreshold = value / 100),
      () => {},
    );
  }
  if (player.isStill) lookAgain();
}

$("score").addEventListener("input", ({ target }) => {
  settings.score = Number(target.value);
  changed();
  refresh();
});
$("iou").addEventListener("input", ({ target }) => setIou(Number(target.value)));
$("compare").addEventListener("change", ({ target }) => setCompare(target.checked));
$("track").addEventListener("change", ({ target }) => {
  settings.track = target.checked;
  changed();
  if (player.moves) lookAgain();
});
for (const [suffix, pane] of [["", first], ["-b", second]]) {
  const update = () => choose(pane, $(`model${suffix}`).value, Number($(`size${suffix}`).value));
  $(`model${suffix}`).addEventListener("change", update);
  $(`size${suffix}`).addEventListener("change", update);
}

// ------------------------------------------------------------------------------------------------ sources

$("camera").addEventListener("click", () => {
  if (player.kind === "camera") player.nothing();
  else if (usesCamera()) player.cancel(); // The browser may still ask for permission.
  else void player.showCamera();
});
$("camera-select").addEventListener("change", ({ target }) => void player.showCamera(target.value));
$("clear").addEventListener("click", () => {
  player.nothing();
  $("camera").focus(); // The focused button is disabled now, so the focus moves.
});
for (const id of ["file", "model-file"]) {
  $(id).addEventListener("change", ({ target }) => {
    const chosen = [...target.files];
    target.value = ""; // So that the same file can be chosen again.
    if (chosen.length) void openFiles(chosen);
  });
}
$("address-form").addEventListener("submit", (event) => {
  event.preventDefault();
  void openAddress($("address").value);
});

// A picture that is dragged out of the page is not to be opened by it.
let dragsOwn = false;
addEventListener("dragstart", () => (dragsOwn = true));
addEventListener("dragend", () => (dragsOwn = false));
let dragDepth = 0; // Entering a child counts as leaving its parent.
const setDropping = (depth) => {
  dragDepth = Math.max(0, depth);
  $("stage").classList.toggle("dropping", dragDepth > 0);
};
const isWelcome = ({ dataTransfer }) =>
  !dragsOwn && dataTransfer?.types.some((type) => type === "Files" || type === "text/uri-list");
addEventListener("dragenter", (event) => isWelcome(event) && setDropping(dragDepth + 1));
addEventListener("dragleave", (event) => isWelcome(event) && setDropping(dragDepth - 1));
addEventListener("dragover", (event) => isWelcome(event) && event.preventDefault());
addEventListener("drop", (event) => {
  setDropping(0);
  if (!isWelcome(event)) return;
  event.preventDefault(); // Otherwise the browser leaves the page to open the file.
  take(event.dataTransfer, event.dataTransfer.getData("text/uri-list"));
});
addEventListener("paste", (event) => {
  if (event.target.closest?.("#address, #class-input") && !event.clipboardData?.files.length) return; // Text for that field.
  take(event.clipboardData, event.clipboardData?.getData("text/plain") ?? "");
});

/** Opens files or a URL. */
function take(data, text) {
  if (data?.files.length) {
    const files = filesIn(data);
    if (files.length) void openFiles(files);
    else report("That is a folder. Open it, and drop the files that are in it.");
  } else if (addressIn(text)) void openAddress(text);
  else if (text) report("That text is no address. Paste a picture, or an address that begins with https://.");
}

// ------------------------------------------------------------------------------------------------ taking it along

function offerExport() {
  const isPicture = $("format").value === "png";
  const empty = !(isPicture ? panes() : [exported()]).some(({ size }) => size.width);
  $("save").disabled = $("copy").disabled = empty;
  $("which").hidden = $("which-label").hidden = !settings.compare || isPicture; // The picture shows both.
}

const exported = () => (settings.compare && $("which").value === "b" ? second : first);

/** Exports the current results in the chosen format. */
async function exportNow() {
  const format = FORMATS[$("format").value];
  const { suffix, type, write } = format;
  const pane = exported();
  const { width, height } = pane.size;
  const kind = player.kind;
  let name = kind === "camera" ? `${momentName(new Date())}.png` : (player.source?.name ?? "");
  if (kind === "video") name = fileName(name, `-${pane.time.toFixed(1)}s.png`); // The exported frame is a picture.
  const found = { name, width, height, objects: pane.found.seen, ...pane.by };
  const blob = write ? new Blob([write(found)], { type }) : await paint();
  return { blob, name: fileName(name, suffix, format) };
}

/** Paints the picture with boxes as a PNG; in a comparison both, side by side. */
async function paint() {
  const image = (pane) => (player.moves && !pane.frame.hidden ? pane.frame : player.image);
  const shown = panes().filter(({ size }) => size.width);
  const sheets = shown.map((pane) => pane.paint(image(pane)));
  if (sheets.length === 1) return toPng(sheets[0]);
  const [{ width, height }] = sheets;
  const gap = Math.round(width / 100);
  // The name of the model is below each picture.
  const caption = Math.max(24, Math.round(width / 20));
  const canvas = newCanvas(sheets.length * (width + gap) - gap, height + caption);
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = "#1a1f22";
  context.font = `600 ${Math.round(caption * 0.55)}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  sheets.forEach((sheet, index) => {
    const left = index * (width + gap);
    context.drawImage(sheet, left, 0);
    context.fillText(shown[index].by.model, left + caption * 0.3, height + caption / 2, width - caption * 0.6);
  });
  return toPng(canvas);
}

/** Explains a failed export. */
function reportExport(error) {
  console.error(error);
  report(explain({ code: "export" }));
  return { blob: undefined, name: "" };
}

$("save").addEventListener("click", async () => {
  clearProblem();
  const { blob, name } = await exportNow().catch(reportExport);
  if (!blob) return;
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
});

$("copy").addEventListener("click", async () => {
  clearProblem();
  const making = exportNow();
  const type = $("format").value === "png" ? "image/png" : "text/plain";
  const content = making.then(({ blob }) => new Blob([blob], { type }));
  content.catch(() => {}); // Handled below.
  try {
    // Safari allows this only during the click, and accepts a promise.
    // Firefox only has it since 127; before, a page copies text only.
    if (globalThis.ClipboardItem || type !== "text/plain") await navigator.clipboard.write([new ClipboardItem({ [type]: content })]);
    else await navigator.clipboard.writeText(await (await content).text());
    note($("copy"), "Copied");
  } catch {
    const { blob } = await making.catch(reportExport);
    if (blob) report("The browser did not let the page copy. Save the file instead.");
  }
});

for (const id of ["format", "which"]) $(id).addEventListener("change", offerExport);

$("share").addEventListener("click", async () => {
  clearProblem();
  // An empty hash would restore the settings stored in the reader's browser.
  const hash = toHash(player.source?.shareable, settings) || `#score=${DEFAULTS.score}`;
  const url = new URL(hash, location.href);
  try {
    await navigator.clipboard.writeText(url.href);
    // Files and the camera cannot be shared: the link opens a sample or a model of the site instead.
    const notes = [];
    if (player.source && !player.source.shareable) notes.push("The link opens a sample: your picture or camera stays here.");
    if (panes().some((pane) => settings[namesOf(pane).id].startsWith("own-"))) notes.push("Your model is not in the link.");
    note($("share"), "Copied", notes.join(" "));
  } catch {
    history.replaceState(null, "", url); // The URL can be copied by hand. Nothing is restored, because it describes the current state.
    report("The browser did not let the page copy. The link is in the address bar now.");
  }
});

let noted;

/** Shows `text` on a button for a moment, without making it narrower, and `more` in the line below. */
function note(button, text, more = "") {
  const before = (button.dataset.text ??= button.textContent);
  button.style.minWidth = `${button.getBoundingClientRect().width}px`;
  button.textContent = text;
  $("copied").textContent = more;
  setTimeout(() => (button.textContent = before), 1500);
  clearTimeout(noted);
  noted = setTimeout(() => ($("copied").textContent = ""), 6000);
}

// ------------------------------------------------------------------------------------------------ arrival

/** Restores the state that the URL names. On arrival, chooses a default source if the URL names none. */
function restore(arrival) {
  const link = fromHash(location.hash);
  const named = Boolean(link.source) || Object.keys(link.settings).length > 0;
  if (!arrival && !named) return;
  // A link leaves out settings with default values, so stored settings must not replace them.
  Object.assign(settings, DEFAULTS, named ? {} : remembered(), link.settings);
  for (const name of ["model", "model2"]) {
    // A model that the site no longer has.
    if (modelOf(settings[name]) || addressIn(settings[name])) continue;
    settings[name] = DEFAULTS[name];
    settings[name.replace("model", "size")] = 0;
  }
  showSettings();
  if (!settings.compare) second.unload();
  for (const pane of panes()) void load(pane);
  const sample = link.source?.kind === "sample" && sampleOf(link.source.name);
  if (link.source?.kind === "url") {
    player.nothing(); // A link's picture is not to be confused with the one before.
    void openAddress(link.source.url);
  } else {
    lookAgain(); // The models are other ones, and what is shown stays until the sample is there.
    showSample(sample ? sample.id : SAMPLES[0].id);
  }
}

samples.fill(
  SAMPLES.map(({ id, name, file }) => ({
    name,
    video: isVideoFile({ name: file }),
    thumb: `./samples/scenes/thumbs/${id}.jpg`,
    show: () => {
      showSample(id);
      reveal();
    },
  })),
);
restore(true);
// Going back to a URL without a hash restores the state on arrival.
addEventListener("hashchange", () => restore(!location.hash));
// After the back button the page continues, but Chromium (seen in 156) may leave its video paused.
let played = false;
addEventListener("pagehide", () => (played = player.kind === "video" && !$("video").paused));
addEventListener("pageshow", ({ persisted }) => persisted && played && $("video").play().catch(() => {}));
// When a visitor comes back and the page is loaded again, Chromium restores the controls after this script has set them.
addEventListener("pageshow", showSettings);
// The window was moved to another screen, or zoomed.
addEventListener("resize", () => panes().forEach((pane) => pane.draw()));

// ------------------------------------------------------------------------------------------------ around it

async function fillLinks() {
  const { source, npm } = await (await fetch("./links.json")).json();
  const items = Object.entries({ "Source code": source, npm }).filter(([, url]) => url);
  $("links").prepend(
    ...items.map(([textContent, href]) => {
      const item = document.createElement("li");
      item.append(Object.assign(document.createElement("a"), { textContent, href }));
      return item;
    }),
  );
}

$("story-size").textContent = `${(MODELS[0].bytes / 1e6).toFixed(1)} MB`;
fillLinks().catch(() => {}); // Missing links are not an error.
