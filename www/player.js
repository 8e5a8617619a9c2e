// The current source (a picture, a video or the camera), and its detection by one model or two. Another one takes its
// place when it has been opened: until then, and if it cannot be opened, what is shown stays.
import { closeCamera, listCameras, openCamera } from "./camera.js";
import { isReadable, mayMove } from "./files.js";
import { grab, nextFrame } from "./frames.js";
import { typical } from "./timing.js";

/** Number of further detections in a picture, and the milliseconds within which they may run, to measure the time. */
const LOOKS = 5;
const LOOKS_MS = 1500;
/** Milliseconds after which a playing video without a frame counts as broken. */
const PATIENCE = 10_000;

/**
 * @typedef {object} Source
 * @property {string} name of a file, for what is saved
 * @property {Blob} [blob] the file, if it is one
 * @property {import("./share.js").Shareable} [shareable] how a link can name it
 */

/**
 * @typedef {object} Page
 * @property {() => import("./pane.js").Pane[]} panes the active panes
 * @property {() => boolean} track
 * @property {() => void} onOpen another source is wanted
 * @property {() => void} onOpened it is there, or it is no longer wanted
 * @property {(error: unknown, source: Source) => void} onRefused it cannot be opened
 * @property {(kind: Kind) => void} onBegin
 * @property {() => void} onTake after each result
 * @property {(error: unknown, pane?: import("./pane.js").Pane) => void} onFail detection in the current source failed
 * @property {(error: unknown) => void} onNoCamera none was opened
 * @property {() => void} onCameraEnd it was unplugged
 * @property {(cameras: { id: string, name: string }[], current: string) => void} onCameras
 */

/** @typedef {"nothing" | "picture" | "video" | "camera"} Kind */

export class Player {
  /** @type {Kind} */
  kind = "nothing";
  /** @type {Source | undefined} */
  source;
  /** @type {{ kind: Kind, source: Source } | undefined} what is being opened, while `source` is still shown */
  opening;
  /** Whether the camera faces the user. */
  mirrored = false;

  #page;
  #stage;
  #picture;
  #video;
  /** Aborted when something else is opened. */
  #opener = new AbortController();
  /** Aborted when another source is shown. */
  #showing = new AbortController();
  /** Also aborted when another model detects. */
  #looking = new AbortController();
  /** @type {((signal: AbortSignal) => Promise<void>) | undefined} */
  #look;
  /** Whether the picture may be animated. */
  #animated = false;
  /** @type {import("./camera.js").Camera | undefined} the one that is shown */
  #camera;

  /**
   * @param {{ stage: HTMLElement, picture: HTMLImageElement, video: HTMLVideoElement }} elements
   * @param {Page} page
   */
  constructor({ stage, picture, video }, page) {
    this.#stage = stage;
    this.#picture = picture;
    this.#video = video;
    this.#page = page;
  }

  /** The image under the boxes, for saving. */
  get image() {
    return this.kind === "picture" ? this.#picture : this.#video;
  }

  /** Whether the source is a video or the camera. */
  get moves() {
    return this.kind === "video" || this.kind === "camera";
  }

  /** Whether nothing is detected until something changes. */
  get isStill() {
    return this.kind === "picture" || (this.kind === "video" && this.#video.paused);
  }

  /**
   * Begins to open another source.
   * @param {Kind} kind
   * @param {Source} source
   * @returns {AbortSignal} aborted when it is no longer wanted
   */
  #open(kind, source) {
    this.#opener.abort();
    this.#opener = new AbortController();
    this.opening = { kind, source };
    this.#page.onOpen();
    return this.#opener.signal;
  }

  /** Gives up what is being opened. */
  cancel() {
    this.#opener.abort();
    this.opening = undefined;
    // The camera before it was closed already.
    if (this.kind === "camera" && isOver(this.#video)) this.nothing();
    else this.#page.onOpened();
  }

  /**
   * The source that was being opened cannot be opened.
   * @param {unknown} error
   * @param {Source} source
   */
  #refuse(error, source) {
    this.cancel();
    this.#page.onRefused(error, source);
  }

  /**
   * Ends what is shown, and shows the next.
   * @param {Kind} kind
   * @param {Source} [source]
   * @param {HTMLImageElement | HTMLVideoElement} [element] with the source in it
   * @returns {AbortSignal} aborted when something else is shown
   */
  #begin(kind, source, element) {
    this.#showing.abort();
    this.#looking.abort();
    this.#showing = new AbortController();
    this.#look = undefined;
    this.#camera = undefined;
    this.opening = undefined;
    this.kind = kind;
    this.source = source;
    this.mirrored = false;
    // A source of its own in each element, so that nothing of the last one is left in it.
    const picture = element instanceof HTMLImageElement ? element : newPicture("");
    const video = element instanceof HTMLVideoElement ? element : newVideo();
    this.#picture.replaceWith(picture);
    this.#video.replaceWith(video);
    release(this.#video);
    [this.#picture, this.#video] = [picture, video];
    picture.hidden = kind !== "picture";
    video.hidden = !this.moves;
    video.controls = kind === "video";
    // A camera has turned, or a stream has changed its size.
    video.addEventListener("resize", () => this.moves && video.videoWidth && this.#fit(video.videoWidth, video.videoHeight));
    this.#stage.dataset.showing = kind;
    if (kind === "nothing") this.#fit(3, 2);
    for (const pane of this.#page.panes()) pane.begin({ mirrored: false, saying: kind === "nothing" ? "Nothing yet." : "Looking …" });
    this.#page.onBegin(kind);
    return this.#showing.signal;
  }

  nothing() {
    this.#opener.abort();
    this.#begin("nothing");
  }

  #fit(width, height) {
    document.getElementById("stages").style.setProperty("--ratio", String(width / height));
  }

  /** Detects again in the current source, because the model, its size or the overlap has changed. */
  lookAgain() {
    this.#looking.abort();
    if (!this.#look) return;
    this.#looking = new AbortController();
    const panes = this.#page.panes();
    for (const pane of panes) {
      // Boxes of a previous model fit a still picture, but no later frame.
      if (this.isStill) pane.again();
      else pane.begin({ mirrored: this.mirrored, saying: "Looking …" });
    }
    if (this.moves) panes[0].frame.hidden = true; // The video under it is visible until its model has detected.
    void this.#look(this.#looking.signal);
  }

  /**
   * Shows the picture at `url` and detects in it once.
   * @param {string} url
   * @param {Source & { alt: string }} source
   */
  async showPicture(url, source) {
    const signal = this.#open("picture", source);
    const picture = newPicture(source.alt);
    let animated;
    try {
      const loaded = once(picture, "load", signal);
      picture.src = url;
      [animated] = await Promise.all([source.blob ? mayMove(source.blob).catch(() => false) : false, loaded]);
    } catch {
      picture.removeAttribute("src");
      const error = await cannotOpen(source);
      if (!signal.aborted) this.#refuse(error, source);
      return;
    }
    if (signal.aborted) return; // While the file was read.
    this.#begin("picture", source, picture);
    this.#animated = animated;
    this.#fit(picture.naturalWidth, picture.naturalHeight);
    this.#look = (signal) => this.#lookAtPicture(signal);
    this.lookAgain();
  }

  async #lookAtPicture(signal) {
    const picture = this.#picture;
    const size = { width: picture.naturalWidth, height: picture.naturalHeight };
    const look = async (pane) => {
      const detector = await pane.detector;
      // Decoding time is not detection time. A picture without a size (SVG) makes no bitmap.
      const bitmap = await createImageBitmap(picture).catch(() => undefined);
      // Boxes fit this frame of an animated picture.
      if (bitmap && this.#animated) pane.showFrame(bitmap, size);
      const started = performance.now();
      try {
        const objects = await detector.detect(bitmap ?? picture, { signal, transfer: Boolean(bitmap) });
        if (signal.aborted) throw signal.reason;
        return { objects, milliseconds: performance.now() - started, timing: detector.timing };
      } finally {
        bitmap?.close(); // Without a worker it was not transferred.
      }
    };
    const show = async (pane) => {
      if (pane !== panes[0]) pane.showFrame(picture, size); // The first one shows the picture itself.
      const { objects, ...times } = await look(pane);
      pane.take(objects, size, times);
      this.#page.onTake();
    };
    // The first runs are slow while the browser still optimises the engine. Boxes are shown at once, times later.
    const time = async (pane) => {
      // A page that computes on its own thread is blocked meanwhile.
      if (!(await pane.detector).worker) return;
      const looks = [];
      const began = performance.now();
      while (looks.length < LOOKS && performance.now() - began < LOOKS_MS) looks.push(await look(pane));
      const { objects, ...times } = typical(looks);
      pane.again();
      pane.take(objects, size, times);
    };
    // One after the other, because they would slow each other down.
    const panes = this.#page.panes();
    for (const step of [show, time]) {
      for (const pane of panes) {
        try {
          await step(pane);
        } catch (error) {
          if (signal.aborted) return;
          // Reported only once.
          if (step === show) this.#page.onFail(error, pane);
        }
      }
    }
  }

  /**
   * @param {string} url
   * @param {Source} source
   */
  async showVideo(url, source) {
    const opening = this.#open("video", source);
    const video = newVideo();
    video.loop = true;
    try {
      const loaded = once(video, "loadeddata", opening);
      video.src = url;
      await loaded;
      if (!video.videoWidth) throw Object.assign(new Error("sound only"), { code: "no-video" });
    } catch (error) {
      release(video);
      const reason = error.code ? error : await cannotOpen(source);
      if (!opening.aborted) this.#refuse(reason, source);
      return;
    }
    const signal = this.#begin("video", source, video);
    this.#fit(video.videoWidth, video.videoHeight);
    const shown = nextFrame(video, signal, 10_000);
    // Rejected if the browser's settings forbid autoplay; the controls then start it.
    video.play().catch(() => {});
    await Promise.race([shown, new Promise((resolve) => setTimeout(resolve, 1000))]);
    if (!signal.aborted) this.#watchFromNow();
  }

  /** @param {string} [id] of a camera */
  async showCamera(id) {
    const source = { name: "" };
    const opening = this.#open("camera", source);
    const before = this.#camera;
    if (before) {
      // Phones open only one at a time.
      this.#looking.abort();
      this.#look = undefined;
      closeCamera(before.stream);
    }
    let camera;
    let failure;
    try {
      camera = await openCamera(id);
    } catch (error) {
      failure = error;
      if (before && !opening.aborted) camera = await openCamera(before.id).catch(() => {});
    }
    if (opening.aborted) {
      // Something else was chosen while the browser asked for permission.
      if (camera) closeCamera(camera.stream);
      return;
    }
    if (!camera) {
      this.cancel();
      this.#page.onNoCamera(failure);
      return;
    }
    const video = newVideo();
    video.srcObject = camera.stream;
    const signal = this.#begin("camera", source, video);
    signal.addEventListener("abort", () => closeCamera(camera.stream));
    this.#camera = camera;
    this.mirrored = camera.mirrored;
    for (const pane of this.#page.panes()) pane.begin({ mirrored: camera.mirrored, saying: "Looking …" });
    video.classList.toggle("mirrored", camera.mirrored);
    if (failure) this.#page.onNoCamera(failure);
    const list = async () => {
      const cameras = await listCameras();
      if (!signal.aborted) this.#page.onCameras(cameras, camera.id);
    };
    const update = () => void list().catch(() => {}); // The camera runs without a list.
    navigator.mediaDevices.addEventListener("devicechange", update, { signal });
    update();
    try {
      await video.play();
    } catch (error) {
      if (signal.aborted) return;
      this.nothing();
      this.#page.onNoCamera(error);
      return;
    }
    this.#watchFromNow();
  }

  #watchFromNow() {
    this.#fit(this.#video.videoWidth, this.#video.videoHeight);
    this.#look = (signal) => this.#watch(signal);
    this.lookAgain();
  }

  async #watch(signal) {
    const panes = this.#page.panes();
    try {
      if (panes.length > 1) await this.#watchTogether(panes, signal);
      else await this.#watchAlone(panes[0], signal);
      if (signal.aborted || this.kind !== "camera") return;
      this.nothing();
      this.#page.onCameraEnd();
    } catch (error) {
      if (signal.aborted) return;
      // It was opened, so it is a video.
      const isBroken = this.kind === "video" && (this.#video.error || error.code === "invalid-image");
      if (isBroken) this.#page.onFail(breaksOff(this.source));
      else this.#page.onFail(error, panes[0]);
    }
  }

  async #watchAlone(pane, signal) {
    const detector = await pane.detector;
    for await (const { objects, frame } of detector.watch(this.#video, { signal, track: this.#page.track() })) {
      if (signal.aborted) return;
      pane.take(objects, frame, { ...frame, timing: detector.timing });
      this.#page.onTake();
    }
  }

  /**
   * All panes whose model is ready process and show the same frames. Tracks need `watch`, which takes its own frames.
   */
  async #watchTogether(panes, signal) {
    const video = this.#video;
    /** @type {Map<import("./pane.js").Pane, import("./pkg/index.js").Detector>} */
    const ready = new Map();
    const fail = (pane, error) => signal.aborted || this.#page.onFail(error, pane);
    for (const pane of panes) {
      pane.detector.then(
        (detector) => ready.set(pane, detector),
        (error) => fail(pane, error),
      );
    }
    let seen = "";
    /** @type {number | undefined} The time since which no frame could be taken. */
    let without;
    while (!signal.aborted && !isOver(video)) {
      await nextFrame(video, signal);
      if (signal.aborted) return;
      if (video.error) throw video.error;
      const time = video.currentTime;
      const now = `${time}, ${ready.size}`;
      if (!ready.size || document.visibilityState === "hidden" || (video.paused && now === seen)) {
        without = undefined;
        continue;
      }
      const frame = await grab(video);
      if (!frame) {
        without ??= performance.now();
        const isEmpty = !seen && this.kind === "video" && performance.now() - without > PATIENCE;
        if (isEmpty) throw Object.assign(new Error("no frame can be decoded"), { code: "invalid-image" });
        continue;
      }
      seen = now;
      try {
        for (const pane of panes.filter((one) => ready.has(one))) {
          const detector = ready.get(pane);
          const copy = await createImageBitmap(frame);
          const started = performance.now();
          try {
            const objects = await detector.detect(copy, { signal, transfer: true }).finally(() => copy.close());
            const milliseconds = performance.now() - started;
            if (signal.aborted) return;
            pane.showFrame(frame, frame);
            const size = { width: frame.width, height: frame.height };
            pane.take(objects, size, { milliseconds, timing: detector.timing, time });
            this.#page.onTake();
          } catch (error) {
            ready.delete(pane); // The other one goes on.
            fail(pane, error);
          }
        }
      } finally {
        frame.close();
      }
    }
  }
}

/**
 * The samples are intact: where one is not shown, it did not come.
 * @param {Source} source
 */
async function cannotOpen({ name, blob, shareable }) {
  let code = shareable?.kind === "sample" ? "sample-unreachable" : "invalid-image";
  if (blob && !(await isReadable(blob))) code = "file-unreadable";
  return Object.assign(new Error(`${name} cannot be opened`), { code, file: name, type: blob?.type });
}

/**
 * A video that began to play, but whose rest cannot be read or decoded.
 * @param {Source} source
 */
function breaksOff({ name, shareable }) {
  const code = shareable?.kind === "sample" ? "sample-unreachable" : "video-breaks-off";
  return Object.assign(new Error(`${name} breaks off`), { code, file: name });
}

/** @param {string} alt */
const newPicture = (alt) => Object.assign(new Image(), { id: "picture", alt });

const newVideo = () => Object.assign(document.createElement("video"), { id: "video", playsInline: true, muted: true });

/**
 * Ends the downloads and the decoder of a video.
 * @param {HTMLVideoElement} video
 */
function release(video) {
  video.pause();
  video.srcObject = null;
  video.removeAttribute("src");
  video.load();
}

/** @param {HTMLVideoElement} video */
function isOver(video) {
  return video.srcObject instanceof MediaStream && !video.srcObject.active;
}

function once(target, event, signal) {
  return new Promise((resolve, reject) => {
    target.addEventListener(event, resolve, { once: true, signal });
    target.addEventListener("error", reject, { once: true, signal });
    signal.addEventListener("abort", reject, { once: true });
  });
}
