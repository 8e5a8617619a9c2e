// The current source (a picture, a video or the camera), and its detection by one model or two.
import { closeCamera, listCameras, openCamera } from "./camera.js";
import { mayMove } from "./files.js";
import { grab, nextFrame } from "./frames.js";
import { typical } from "./timing.js";

/** Number of further detections in a picture, and the milliseconds within which they may run, to measure the time. */
const LOOKS = 5;
const LOOKS_MS = 1500;

/**
 * @typedef {object} Source
 * @property {string} name of a file, for what is saved
 * @property {Blob} [blob] the file of a picture, if it may be animated
 * @property {import("./share.js").Shareable} [shareable] how a link can name it
 */

/**
 * @typedef {object} Page
 * @property {() => import("./pane.js").Pane[]} panes the active panes
 * @property {() => boolean} track
 * @property {(kind: "nothing" | "picture" | "video" | "camera") => void} onBegin
 * @property {() => void} onTake after each result
 * @property {(error: unknown, pane?: import("./pane.js").Pane) => void} onFail detection in the current source failed
 * @property {(error: unknown) => void} onNoCamera
 * @property {() => void} onCameraEnd it was unplugged
 * @property {(cameras: { id: string, name: string }[], current: string) => void} onCameras
 */

export class Player {
  /** @type {"nothing" | "picture" | "video" | "camera"} */
  kind = "nothing";
  /** @type {Source | undefined} */
  source;
  /** Whether the camera faces the user. */
  mirrored = false;

  #page;
  #stage;
  #picture;
  #video;
  /** Aborted when another source is shown. */
  #showing = new AbortController();
  /** Also aborted when another model detects. */
  #looking = new AbortController();
  /** @type {((signal: AbortSignal) => Promise<void>) | undefined} */
  #look;
  /** Whether the picture may be animated. */
  #animated = false;

  /**
   * @param {{ stage: HTMLElement, picture: HTMLImageElement, video: HTMLVideoElement }} elements
   * @param {Page} page
   */
  constructor({ stage, picture, video }, page) {
    this.#stage = stage;
    this.#picture = picture;
    this.#video = video;
    this.#page = page;
    // A camera has turned, or a stream has changed its size.
    video.addEventListener("resize", () => this.moves && video.videoWidth && this.#fit(video.videoWidth, video.videoHeight));
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
   * Ends what is shown and makes room for the next.
   * @param {Player["kind"]} kind
   * @param {Source} [source]
   * @returns {AbortSignal} aborted when something else is shown
   */
  #begin(kind, source) {
    this.#showing.abort();
    this.#looking.abort();
    this.#showing = new AbortController();
    this.#look = undefined;
    this.kind = kind;
    this.source = source;
    this.mirrored = false;
    const [picture, video] = [this.#picture, this.#video];
    picture.hidden = kind !== "picture";
    if (kind !== "picture") picture.removeAttribute("src"); // A broken picture would show its icon.
    video.hidden = !this.moves;
    video.controls = kind === "video";
    video.classList.remove("mirrored");
    this.#stage.dataset.showing = kind;
    this.#fit(3, 2);
    for (const pane of this.#page.panes()) pane.begin({ mirrored: false, saying: kind === "nothing" ? "Nothing yet." : "Looking …" });
    this.#page.onBegin(kind);
    return this.#showing.signal;
  }

  nothing() {
    this.#begin("nothing");
  }

  #fit(width, height) {
    document.getElementById("stages").style.setProperty("--ratio", String(width / height));
  }

  /** @param {unknown} error */
  #fail(error) {
    this.nothing();
    this.#page.onFail(error);
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
    const signal = this.#begin("picture", source);
    const picture = this.#picture;
    const loaded = Promise.all([source.blob ? mayMove(source.blob) : false, once(picture, "load", signal)]);
    picture.classList.add("pending"); // Hidden until it has loaded completely.
    picture.src = url;
    picture.alt = source.alt;
    try {
      [this.#animated] = await loaded;
    } catch {
      if (!signal.aborted) this.#fail(cannotOpen(source));
      return;
    }
    picture.classList.remove("pending");
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
    const signal = this.#begin("video", source);
    const video = this.#video;
    video.srcObject = null;
    video.loop = true;
    video.src = url;
    signal.addEventListener("abort", () => {
      video.pause();
      video.removeAttribute("src");
      video.load();
    });
    try {
      const shown = nextFrame(video, signal, 10_000);
      await once(video, "loadeddata", signal);
      if (!video.videoWidth) throw Object.assign(new Error("sound only"), { code: "no-video" });
      // Rejected if the browser's settings forbid autoplay; the controls then start it.
      video.play().catch(() => {});
      await Promise.race([shown, new Promise((resolve) => setTimeout(resolve, 1000))]);
    } catch (error) {
      if (!signal.aborted) this.#fail(error.code ? error : cannotOpen(source));
      return;
    }
    if (!signal.aborted) this.#watchFromNow();
  }

  /** @param {string} [id] of a camera */
  async showCamera(id) {
    const signal = this.#begin("camera", { name: "" });
    const video = this.#video;
    let camera;
    try {
      camera = await openCamera(id);
    } catch (error) {
      if (signal.aborted) return;
      this.nothing();
      this.#page.onNoCamera(error);
      return;
    }
    if (signal.aborted) {
      closeCamera(camera.stream); // Something else was chosen while the browser asked for permission.
      return;
    }
    signal.addEventListener("abort", () => {
      closeCamera(camera.stream);
      video.srcObject = null;
    });
    this.mirrored = camera.mirrored;
    for (const pane of this.#page.panes()) pane.begin({ mirrored: camera.mirrored, saying: "Looking …" });
    video.classList.toggle("mirrored", camera.mirrored);
    video.removeAttribute("src");
    video.srcObject = camera.stream;
    void listCameras().then((cameras) => !signal.aborted && this.#page.onCameras(cameras, camera.id));
    try {
      await video.play();
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
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
      if (!signal.aborted) this.#page.onFail(error, panes[0]);
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
    while (!signal.aborted && !isOver(video)) {
      await nextFrame(video, signal);
      if (signal.aborted) return;
      const time = video.currentTime;
      const now = `${time}, ${ready.size}`;
      if (!ready.size || document.visibilityState === "hidden" || (video.paused && now === seen)) continue;
      const frame = await grab(video);
      if (!frame) continue;
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
function cannotOpen({ name, shareable }) {
  const code = shareable?.kind === "sample" ? "sample-unreachable" : "invalid-image";
  return Object.assign(new Error(`${name} cannot be opened`), { code, file: name });
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
