// Everything a page may hand to detect(), made into one of two forms: pixels, or something a canvas can draw. Sizes are
// those the user sees: natural size of an image with its orientation applied, display size of a video.
import { checkReadback } from "./canvas.js";
import { MicroYoloError, shown } from "./error.js";

/**
 * @typedef {object} Pixels Straight RGBA, 8 bits a channel, rows from the top, without padding.
 * @property {Uint8Array | Uint8ClampedArray} data
 * @property {number} width
 * @property {number} height
 */

/**
 * @typedef {object} Drawing Something for `drawImage`, and the size in which boxes are to be reported.
 * @property {ImageBitmap | VideoFrame | HTMLImageElement | HTMLVideoElement | HTMLCanvasElement | OffscreenCanvas} image
 * @property {number} width
 * @property {number} height
 * @property {boolean} ours Made here, so it may be given away and must be closed.
 */

/** @typedef {Pixels | Drawing} Frame */

/**
 * A frame that can travel to a worker: its pixels or a bitmap of our own.
 *
 * @param {import("./index.js").ImageSource} source
 * @param {{ signal?: AbortSignal, transfer?: boolean }} options
 * @returns {Promise<Frame>}
 */
export async function portableFrame(source, { signal, transfer }) {
  const frame = await localFrame(source, { signal });
  if (!("image" in frame) || frame.ours) return frame;
  if (transfer && isTransferable(frame.image)) return { ...frame, ours: true };
  return { ...frame, image: videoFrame(frame) ?? (await bitmap(frame.image)), ours: true };
}

/**
 * The current frame of a video, without converting it here: a bitmap of 1280 x 720 px costs this thread 4 ms (measured
 * in Chromium without a GPU), a reference nothing.
 * @param {Drawing} frame
 * @returns {VideoFrame | undefined}
 */
function videoFrame({ image, width, height }) {
  if (typeof VideoFrame !== "function" || kindOf(image) !== "HTMLVideoElement") return undefined;
  let frame;
  try {
    frame = new VideoFrame(/** @type {HTMLVideoElement} */ (image));
  } catch {
    return undefined; // A bitmap's error says more.
  }
  if (frame.displayWidth === width && frame.displayHeight === height) return frame;
  frame.close(); // A film that is stored turned: not every browser turns its frames.
  return undefined;
}

/**
 * A frame for this thread: what can be drawn as it is stays as it is.
 *
 * @param {import("./index.js").ImageSource} source
 * @param {{ signal?: AbortSignal }} options
 * @returns {Promise<Frame>}
 */
export async function localFrame(source, { signal }) {
  if (typeof source === "string" || source instanceof URL) return decoded(await fetchImage(source, signal));
  switch (kindOf(source)) {
    case "Blob":
    case "File":
      return decoded(/** @type {Blob} */ (source));
    case "ImageData":
      checkReadback(); // Most are read from a canvas of the page.
      return checkedPixels(/** @type {ImageData} */ (source));
    case "HTMLImageElement":
      return imageElement(/** @type {HTMLImageElement} */ (source));
    case "HTMLVideoElement":
      return videoElement(/** @type {HTMLVideoElement} */ (source));
    case "HTMLCanvasElement":
    case "OffscreenCanvas":
    case "ImageBitmap": {
      const image = /** @type {HTMLCanvasElement | OffscreenCanvas | ImageBitmap} */ (source);
      return drawing(image, image.width, image.height);
    }
    case "VideoFrame": {
      const image = /** @type {VideoFrame} */ (source);
      return drawing(image, image.displayWidth, image.displayHeight); // 0 x 0 when it is closed.
    }
    default:
      if (source && typeof source === "object" && "data" in source) return checkedPixels(source);
      throw new MicroYoloError(
        "invalid-source",
        `detect() takes an image, a video, a canvas, pixels, a Blob or a URL; this is ${kindOf(source)}`,
      );
  }
}

/**
 * The name of the platform class: unlike `instanceof`, right for objects of another frame, and safe in a worker, where
 * the element classes do not exist.
 * @param {unknown} source
 */
function kindOf(source) {
  return Object.prototype.toString.call(source).slice(8, -1);
}

/** @param {unknown} image */
function isTransferable(image) {
  return kindOf(image) === "ImageBitmap" || kindOf(image) === "VideoFrame";
}

/**
 * @param {Drawing["image"]} image
 * @param {number} width
 * @param {number} height
 * @returns {Drawing}
 */
function drawing(image, width, height) {
  if (!(width > 0 && height > 0)) {
    throw new MicroYoloError("invalid-image", `the ${kindOf(image)} is ${width} x ${height} px: empty, or closed`);
  }
  return { image, width, height, ours: false };
}

/**
 * @param {{ data: ArrayLike<number>, width: number, height: number }} source
 * @returns {Pixels}
 */
function checkedPixels({ data, width, height }) {
  if (!(data instanceof Uint8Array || data instanceof Uint8ClampedArray)) {
    throw new MicroYoloError("invalid-image", `pixels must be a Uint8ClampedArray or a Uint8Array, not ${kindOf(data)}`);
  }
  if (!(isCount(width) && isCount(height))) {
    throw new MicroYoloError("invalid-image", `width and height must be whole numbers above 0, not ${width} x ${height}`);
  }
  if (data.length !== width * height * 4) {
    throw new MicroYoloError(
      "invalid-image",
      `${data.length} bytes of pixels were given; ${width} x ${height} px of RGBA are ${width * height * 4}`,
    );
  }
  return { data, width, height };
}

/** @param {unknown} value */
function isCount(value) {
  return Number.isInteger(value) && Number(value) > 0;
}

/**
 * @param {HTMLImageElement} image
 * @returns {Promise<Frame>}
 */
async function imageElement(image) {
  if (!image.complete) {
    if (image.loading === "lazy") {
      // Off screen such an image may never load: waiting for it could take for ever.
      throw new MicroYoloError("not-loaded", "the lazy image has not loaded yet; wait for its `load` event");
    }
    // Not decode(): in Firefox, after a change of `src`, it may answer for the picture before.
    await new Promise((resolve) => {
      for (const event of ["load", "error"]) image.addEventListener(event, resolve, { once: true });
    });
  }
  if (!image.naturalWidth) {
    if (image.currentSrc) throw new MicroYoloError("invalid-image", `not a picture the browser can show: ${shown(image.currentSrc)}`);
    throw new MicroYoloError("not-loaded", "the image element has no picture; set its `src` first");
  }
  return drawing(image, image.naturalWidth, image.naturalHeight);
}

/**
 * @param {HTMLVideoElement} video
 * @returns {Frame}
 */
function videoElement(video) {
  if (video.error) {
    throw new MicroYoloError("invalid-image", `the video cannot be played: ${video.error.message}`, { cause: video.error });
  }
  if (video.readyState < 2 /* HAVE_CURRENT_DATA */ || !video.videoWidth) {
    throw new MicroYoloError("not-loaded", "the video has no frame yet; wait for its `loadeddata` event");
  }
  return drawing(video, video.videoWidth, video.videoHeight);
}

/**
 * @param {string | URL} source
 * @param {AbortSignal | undefined} signal
 */
async function fetchImage(source, signal) {
  const url = String(source);
  if (url.length > 1000 && /^[\w+/=\s-]+$/.test(url)) {
    throw new MicroYoloError("invalid-source", `base64 text is no address: put "data:image/jpeg;base64," before ${shown(url)}`);
  }
  if (typeof createImageBitmap !== "function") throw noPictures();
  let response;
  try {
    response = await fetch(url, { signal });
    if (response.ok) return await response.blob();
  } catch (cause) {
    const why = "offline, another site without CORS, or forbidden by a content security policy (connect-src)";
    throw new MicroYoloError("network", `${shown(url)} could not be fetched: ${why}`, { cause });
  }
  throw new MicroYoloError("network", `${shown(url)} answered ${response.status}`);
}

/**
 * @param {Blob} blob
 * @returns {Promise<Drawing>}
 */
async function decoded(blob) {
  try {
    const image = await bitmap(blob);
    return { image, width: image.width, height: image.height, ours: true };
  } catch (error) {
    // An element decodes more: SVG, and in Firefox 153 a Blob of parts whose first is very short.
    const image = typeof Image === "function" ? await element(blob).catch(() => undefined) : undefined;
    if (!image?.naturalWidth) throw error;
    return drawing(image, image.naturalWidth, image.naturalHeight);
  }
}

/** @param {Blob} blob */
async function element(blob) {
  const image = new Image();
  const url = URL.createObjectURL(blob);
  try {
    image.src = url;
    await image.decode();
    return image;
  } finally {
    URL.revokeObjectURL(url);
  }
}

/**
 * The picture now, as a bitmap that lives by itself. Orientation written in the file is applied (the default).
 * @param {ImageBitmapSource} source
 */
async function bitmap(source) {
  if (typeof createImageBitmap !== "function") throw noPictures();
  try {
    return await createImageBitmap(source);
  } catch (cause) {
    throw drawError(cause);
  }
}

function noPictures() {
  return new MicroYoloError("unsupported", "here are no pictures (Node?); give pixels as {data, width, height}");
}

/**
 * What the browser says when it will not draw a picture or give out its pixels.
 * @param {unknown} cause
 * @returns {MicroYoloError}
 */
export function drawError(cause) {
  const name = cause instanceof Error ? cause.name : "";
  // A bitmap of foreign pixels can be made but not sent: DataCloneError.
  if (name === "SecurityError" || name === "DataCloneError") {
    return new MicroYoloError(
      "tainted",
      'the picture comes from another site without CORS, so its pixels are secret; load it with crossorigin="anonymous"',
      { cause },
    );
  }
  return new MicroYoloError("invalid-image", "the browser cannot decode this picture", { cause });
}
