// Converts everything that a page may pass to detect() to one of two forms: pixels, or something that a canvas can
// draw. Sizes are those that the user sees: the natural size of an image with its orientation applied, the display size
// of a video.
import { checkReadback, isBlank, newCanvas, newElement } from "./canvas.js";
import { MicroYoloError, aborted, given, notFetched, pageInstead, shown } from "./error.js";
import { isIntact } from "./intact.js";
import { kindOf } from "./kind.js";
import { collected, observed } from "./stream.js";

/**
 * @typedef {object} Pixels Straight RGBA, 8 bits a channel, rows from the top, without padding.
 * @property {Uint8Array | Uint8ClampedArray} data
 * @property {number} width
 * @property {number} height
 * @property {boolean} [ours] Copied here, so it may be transferred.
 */

/**
 * @typedef {object} Drawing Something for `drawImage`, and the size in which boxes are to be reported.
 * @property {ImageBitmap | VideoFrame | HTMLImageElement | HTMLVideoElement | HTMLCanvasElement | OffscreenCanvas} image
 * @property {number} width
 * @property {number} height
 * @property {boolean} ours Made here, so it may be transferred and must be closed.
 * @property {() => Promise<void>} [check] Throws if the file of the picture is damaged. Called where one colour is all
 * that is seen.
 */

/** @typedef {Pixels | Drawing} Frame */

/**
 * A frame that can be sent to a worker: its pixels or a bitmap of our own. If the source is available, it is copied
 * before this returns: the caller may draw the next picture on the same canvas at once.
 *
 * @param {import("./index.js").ImageSource} source
 * @param {{ signal?: AbortSignal, transfer?: boolean }} options
 * @returns {Frame | Promise<Frame>} a promise if something must be awaited, as for `localFrame`
 */
export function portableFrame(source, { signal, transfer }) {
  const taken = localFrame(source, { signal, portable: true });
  return "then" in taken ? taken.then((frame) => portable(frame, transfer)) : portable(taken, transfer);
}

/**
 * @param {Frame} frame
 * @param {boolean | undefined} transfer
 * @returns {Frame | Promise<Frame>}
 */
function portable(frame, transfer) {
  if (frame.ours) return frame;
  if (!("image" in frame)) return transfer ? frame : { ...frame, data: copied(frame.data), ours: true };
  if (transfer && isTransferable(frame.image)) return { ...frame, ours: true };
  return bitmap(frame.image).then((image) => ({ ...frame, image, ours: true }));
}

/**
 * Frees a frame that was processed or is no longer needed.
 * @param {Frame} frame
 */
export function release(frame) {
  // After a transfer to the worker the frame is empty here, and this does nothing.
  if ("image" in frame && frame.ours && "close" in frame.image) frame.image.close();
}

/**
 * The current frame of a video, without a conversion here: a bitmap of 1280 x 720 px takes 4 ms of this thread
 * (measured in Chromium without a GPU), a reference none.
 * @param {HTMLVideoElement} video
 * @returns {VideoFrame | undefined}
 */
function videoFrame(video) {
  if (typeof VideoFrame !== "function") return undefined;
  let frame;
  try {
    frame = new VideoFrame(video);
  } catch {
    return undefined; // The error of a bitmap is more precise.
  }
  if (frame.displayWidth === video.videoWidth && frame.displayHeight === video.videoHeight) return frame;
  frame.close(); // The video is stored rotated, and not every browser rotates its frames.
  return undefined;
}

const OF_BYTES = ": of the bytes of a file make a Blob, `new Blob([bytes])`";
const OF_CONTEXT = ": give its `canvas`";
const OF_LINK = ": give its `href`";
const OF_NOTHING = ": a selector that matches nothing, or an element that is not there yet?";
const OF_STREAM = ": give the <video> that shows it";
/** @type {Record<string, string>} How a picture comes of what was given instead. */
const HINTS = {
  ArrayBuffer: OF_BYTES,
  Uint8Array: OF_BYTES,
  Uint8ClampedArray: ": pixels need their size, `{ data, width, height }`",
  Promise: ": await it",
  Response: ": give `await response.blob()`",
  Request: ": give its `url`",
  ReadableStream: ": give `await new Response(stream).blob()`",
  FileList: ": give one of its files",
  FileSystemFileHandle: ": give `await handle.getFile()`",
  HTMLInputElement: ": give one of its `files`",
  HTMLPictureElement: ": give the <img> in it",
  HTMLAnchorElement: OF_LINK,
  Location: OF_LINK,
  SVGImageElement: ": give its address, `href.baseVal`",
  DataTransfer: ": give one of its `files`",
  MessageEvent: ": give its `data`",
  CanvasRenderingContext2D: OF_CONTEXT,
  OffscreenCanvasRenderingContext2D: OF_CONTEXT,
  WebGLRenderingContext: OF_CONTEXT,
  WebGL2RenderingContext: OF_CONTEXT,
  ImageBitmapRenderingContext: OF_CONTEXT,
  GPUCanvasContext: OF_CONTEXT,
  MediaStream: OF_STREAM,
  MediaStreamTrack: OF_STREAM,
  Null: OF_NOTHING,
  Undefined: OF_NOTHING,
};

/**
 * A frame for this thread: a source that can be drawn directly stays as it is.
 *
 * @param {import("./index.js").ImageSource} source
 * @param {{ signal?: AbortSignal, transfer?: boolean, portable?: boolean }} options
 * @returns {Frame | Promise<Frame>} a promise if something must be fetched, decoded or awaited
 */
export function localFrame(source, { signal, portable }) {
  switch (kindOf(source)) {
    case "String":
    case "URL":
      return fetched(String(source), signal);
    case "Blob":
    case "File":
      return decoded(/** @type {Blob} */ (source));
    case "ImageData":
      checkReadback(); // Most are read from a canvas of the page.
      return checkedPixels(standardData(/** @type {ImageData} */ (source)));
    case "HTMLImageElement":
      return imageElement(/** @type {HTMLImageElement} */ (source), signal, portable);
    case "HTMLVideoElement":
      return videoElement(/** @type {HTMLVideoElement} */ (source), signal, portable);
    case "HTMLCanvasElement":
    case "OffscreenCanvas":
    case "ImageBitmap": {
      const image = /** @type {HTMLCanvasElement | OffscreenCanvas | ImageBitmap} */ (source);
      if ("ownerDocument" in image && isLost(image)) {
        throw new MicroYoloError("invalid-image", "the canvas is empty: the frame or window that it belonged to was closed");
      }
      return drawing(image, image.width, image.height);
    }
    case "VideoFrame": {
      const image = /** @type {VideoFrame} */ (source);
      return drawing(image, image.displayWidth, image.displayHeight); // 0 x 0 when it is closed.
    }
    default:
      if (hasPixels(source)) return checkedPixels(/** @type {import("./index.js").RawPixels} */ (source));
      throw new MicroYoloError(
        "invalid-source",
        `detect() takes an image, a video, a canvas, pixels, a Blob or a URL; this is ${kindOf(source)}${HINTS[kindOf(source)] ?? holds(source)}`,
      );
  }
}

/**
 * Whether something is meant as pixels. Events and some elements have a property `data` too, jQuery a method.
 * @param {unknown} source
 */
function hasPixels(source) {
  const { data } = Object(source);
  return kindOf(source) === "Object" ? "data" in Object(source) && typeof data !== "function" : ArrayBuffer.isView(data);
}

/** Where frameworks and lists keep an element: references of React, Vue and Angular, jQuery, arrays. */
const PLACES = { current: "`current`", value: "`value`", nativeElement: "`nativeElement`", 0: "elements, one at a time" };

/**
 * Advice for something that holds a picture instead of being one; empty otherwise.
 * @param {unknown} source
 */
function holds(source) {
  const place = Object.entries(PLACES).find(([key]) => /^(HTML|ImageBitmap|OffscreenCanvas|Blob|File)/.test(kindOf(Object(source)[key])));
  return place ? `: give its ${place[1]}` : "";
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
 * Whether a canvas has lost its content with its frame or window (Chromium, seen in 156). A canvas of a document that
 * never had a window keeps it.
 * @param {HTMLCanvasElement} canvas
 */
function isLost(canvas) {
  if (canvas.ownerDocument.defaultView) return false;
  try {
    const [width, height] = [64, 64];
    const context = /** @type {CanvasRenderingContext2D} */ (newCanvas(width, height).getContext("2d"));
    context.drawImage(canvas, 0, 0, width, height);
    return !context.getImageData(0, 0, width, height).data.some(Boolean);
  } catch {
    return false; // Whatever reads it next reports the error.
  }
}

/**
 * @param {{ data: ArrayLike<number>, width: number, height: number }} source
 * @returns {Pixels}
 */
function checkedPixels({ data, width, height }) {
  if (!(ArrayBuffer.isView(data) && /^Uint8(Clamped)?Array$/.test(kindOf(data)))) {
    throw new MicroYoloError("invalid-image", `pixels must be a Uint8ClampedArray or a Uint8Array, not ${kindOf(data)}`);
  }
  if (!(isCount(width) && isCount(height))) {
    throw new MicroYoloError("invalid-image", `width and height must be whole numbers above 0, not ${given(width)} x ${given(height)}`);
  }
  if (data.length !== width * height * 4) {
    if (!data.length) copied(/** @type {Uint8Array} */ (/** @type {unknown} */ (data))); // Throws if it was transferred.
    throw new MicroYoloError(
      "invalid-image",
      `${data.length} bytes of pixels were given; ${width} x ${height} px of RGBA are ${width * height * 4}`,
    );
  }
  return { data: /** @type {Uint8Array} */ (/** @type {unknown} */ (data)), width, height };
}

/**
 * The picture in sRGB with one byte per channel. A canvas converts other colour spaces (`display-p3`) and floats.
 * @param {ImageData} image
 * @returns {ImageData}
 */
function standardData(image) {
  const { colorSpace = "srgb", width, height } = image;
  if (colorSpace === "srgb" && kindOf(image.data) !== "Float16Array") return image;
  if (!image.data.length) throw gone();
  try {
    const context = /** @type {CanvasRenderingContext2D} */ (newCanvas(width, height).getContext("2d", { willReadFrequently: true }));
    context.putImageData(image, 0, 0);
    return context.getImageData(0, 0, width, height);
  } catch (cause) {
    throw tooLarge(width, height, cause);
  }
}

/** @param {unknown} value */
function isCount(value) {
  return Number.isInteger(value) && Number(value) > 0;
}

/**
 * @param {HTMLImageElement} image
 * @param {AbortSignal | undefined} signal
 * @param {boolean | undefined} portable
 * @returns {Frame | Promise<Frame>}
 */
function imageElement(image, signal, portable) {
  if (typeof createImageBitmap !== "function") throw noPictures(); // jsdom never loads images.
  if (!image.complete) return loading(image, signal).then(() => imageElement(image, signal, portable));
  const { naturalWidth: width, naturalHeight: height, currentSrc } = image;
  const check = () => checkElement(image, currentSrc);
  const unturned = width ? unturnedImage(image) : undefined;
  if (unturned) {
    const frame = { ...unturned, check };
    return isNothing(frame) ? checkDrawable(image).then(() => frame) : frame;
  }
  if (!width) {
    if (!currentSrc) {
      // Of a <template>, or made by a DOMParser.
      const remedy = image.src && !image.ownerDocument.defaultView ? "its document loads none, so insert it in the page" : "set its `src` first";
      throw new MicroYoloError("not-loaded", `the image element has no picture; ${remedy}`);
    }
    const why = image.crossOrigin === null ? "" : ", or one without CORS headers";
    throw new MicroYoloError("invalid-image", `not a picture the browser can show${why}: ${shown(currentSrc)}`);
  }
  // Drawn directly, an image from `srcset` would have only the pixels of its natural size, which is in CSS pixels.
  const chosen = image.srcset || image.parentElement?.localName === "picture";
  if (!portable && chosen) return bitmap(image).then((image) => ({ image, width, height, ours: true, check }));
  return { ...drawing(image, width, height), check };
}

/**
 * Whether an image is shown as it is stored, without the orientation in its file.
 * @param {Element} image
 */
export function isUnturned(image) {
  return image.ownerDocument.defaultView?.getComputedStyle(image).imageOrientation === "none";
}

/** Sides of the canvas below. The engine scales pictures to less than this. */
const CANVAS_SIDE = 4096;

/**
 * The picture of an image with `image-orientation: none`; undefined if it is shown otherwise. Its natural size and
 * bitmaps made from it are those of the rotated picture. Firefox draws it as it is shown; Chromium does so only on a
 * canvas that is in the page and has the same style (seen in 153 and 156).
 * @param {HTMLImageElement} image
 * @returns {Drawing | undefined}
 */
export function unturnedImage(image) {
  if (!isUnturned(image)) return undefined;
  const { naturalWidth, naturalHeight, ownerDocument } = image;
  const host = newElement(ownerDocument, "div"); // Separated from the page's styles.
  const canvas = newElement(ownerDocument, "canvas");
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  host.style.cssText = "all: initial !important; position: fixed !important; visibility: hidden !important";
  canvas.style.cssText = "image-orientation: none; width: 0; height: 0";
  host.attachShadow({ mode: "closed" }).append(canvas);
  ownerDocument.documentElement.append(host);
  try {
    // Whether it was rotated by a quarter turn: draws into the one pixel that only one of the two orientations covers.
    canvas.width = canvas.height = 1;
    const [short, long] = [naturalWidth, naturalHeight].sort((a, b) => a - b);
    const wide = naturalWidth > naturalHeight;
    context.drawImage(image, wide ? -short / 2 : 1 - long, wide ? 1 - long : -short / 2);
    const quarter = short !== long && context.getImageData(0, 0, 1, 1).data[3] > 0;
    const [width, height] = quarter ? [naturalHeight, naturalWidth] : [naturalWidth, naturalHeight];
    const scale = Math.min(1, CANVAS_SIDE / long);
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    return { image: canvas, width, height, ours: false };
  } catch (cause) {
    throw drawError(cause);
  } finally {
    host.remove();
  }
}

/**
 * Not with events, because none reports that the source was removed. Not with decode(): in Firefox, after a change of
 * `src`, it may resolve for the previous picture.
 * @param {HTMLImageElement} image
 * @param {AbortSignal | undefined} signal
 */
async function loading(image, signal) {
  while (!image.complete) {
    if (signal?.aborted) throw aborted(signal);
    if (image.loading === "lazy") {
      // An off-screen lazy image may never load, so waiting for it could take for ever.
      throw new MicroYoloError("not-loaded", "the lazy image has not loaded yet; wait for its `load` event");
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Milliseconds for which a loaded video is polled for a frame. Usual are 12 to 80. */
const FRAME_WAIT = 5000;

/**
 * An available frame is taken before the call returns, because the caller may remove the video's source next.
 * @param {HTMLVideoElement} video
 * @param {AbortSignal | undefined} signal
 * @param {boolean | undefined} portable
 * @returns {Drawing | Promise<Drawing>}
 */
function videoElement(video, signal, portable) {
  const { error, networkState, readyState, seeking } = video;
  const isThere = !error && networkState !== 3 && readyState >= 2 && !seeking;
  const image = isThere ? videoFrame(video) : undefined;
  return image ? ownFrame(video, image, portable) : waitedFrame(video, signal, portable);
}

/**
 * @param {HTMLVideoElement} video
 * @param {VideoFrame | ImageBitmap} image of it
 * @param {boolean | undefined} portable
 * @returns {Drawing}
 */
function ownFrame(video, image, portable) {
  const { videoWidth: width, videoHeight: height } = video;
  // Firefox (seen in 153) makes an empty bitmap of a video whose file ends before its first frame.
  if ("width" in image && !image.width) throw damaged("the video");
  const frame = { image, width, height, ours: true };
  // Firefox draws the video itself four times as fast. Chromium may draw nothing of it.
  if (portable || !("mozPresentedFrames" in video)) return frame;
  release(frame);
  return drawing(video, width, height);
}

/**
 * The frame that the video shows, as a separate picture. A video reports that it has loaded some time before the
 * browser can draw it (Chromium 156), and reports a seek before or after (Firefox 153) its frame is gone. So this waits
 * for that frame.
 * @param {HTMLVideoElement} video
 * @param {AbortSignal | undefined} signal
 * @param {boolean | undefined} portable
 * @returns {Promise<Drawing>}
 */
async function waitedFrame(video, signal, portable) {
  const end = performance.now() + FRAME_WAIT;
  for (;;) {
    if (signal?.aborted) throw aborted(signal);
    if (video.error) {
      const { code, message } = video.error;
      // Chromium (seen in 156) reports the same for a file here that is cut off.
      const isRemote = !/^(blob|data):/.test(video.currentSrc);
      throw new MicroYoloError(
        code === 2 /* MEDIA_ERR_NETWORK */ && isRemote ? "network" : "invalid-image",
        `the video cannot be played${message && `: ${message}`}`,
        { cause: video.error },
      );
    }
    if (video.networkState === 3 /* NETWORK_NO_SOURCE */) {
      await new Promise((resolve) => setTimeout(resolve)); // This is normal for a moment, while the browser chooses a source.
      if (video.networkState === 3 && !video.error) {
        throw new MicroYoloError("invalid-image", "the browser can play none of the video's sources");
      }
      if (video.error) continue;
    }
    const { readyState, seeking, videoWidth, videoHeight } = video;
    // After a seek to its end, Firefox (seen in 153) reports the end of the seek some time before it has the frame.
    const isBetween = readyState === 1 /* HAVE_METADATA */ && video.currentTime >= video.duration;
    if (!seeking && readyState < 2 /* HAVE_CURRENT_DATA */ && !isBetween) {
      throw new MicroYoloError("not-loaded", "the video has no frame yet; wait for its `loadeddata` event");
    }
    if (!seeking && !videoWidth) throw new MicroYoloError("not-loaded", "the video has sound and no picture, so far at least");
    if (!seeking && !isBetween) {
      try {
        const image = videoFrame(video) ?? (await bitmap(video));
        if (video.videoWidth === videoWidth && video.videoHeight === videoHeight) return ownFrame(video, image, portable);
        image.close(); // The stream changed its size meanwhile: boxes would be in pixels of another size.
      } catch (error) {
        const { name } = /** @type {Error} */ (/** @type {Error} */ (error).cause ?? error);
        if (name !== "InvalidStateError") throw error;
      }
    }
    if (performance.now() > end) {
      throw new MicroYoloError(
        "not-loaded",
        "the browser shows no frame of the video yet; it gives none of a protected film, of a stream before it is played " +
          "and, sometimes, of a hidden page",
      );
    }
    await nextFrame(video);
  }
}

/**
 * Waits until the video shows another frame, or for a moment: not every browser reports each frame, and a hidden page
 * gets no reports.
 * @param {HTMLVideoElement} video
 */
function nextFrame(video) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, 50);
    video.requestVideoFrameCallback?.(() => {
      clearTimeout(timer);
      resolve(undefined);
    });
  });
}

/** Maximum bytes of a response: an endless response would fill the memory. */
const IMAGE_BYTES = 256 * 2 ** 20;

/**
 * @param {string} url
 * @param {AbortSignal | undefined} signal
 */
async function fetched(url, signal) {
  const blob = await fetchImage(url, signal);
  return decoded(blob, `the picture ${shown(url)}`).catch((error) => {
    if (!(error instanceof MicroYoloError) || error.code !== "invalid-image" || !/^text\/html/i.test(blob.type)) throw error;
    throw new MicroYoloError("invalid-image", pageInstead(url, "a picture"), { cause: error.cause });
  });
}

/**
 * @param {string} url
 * @param {AbortSignal | undefined} signal
 */
async function fetchImage(url, signal) {
  if (!url.trim()) throw new MicroYoloError("invalid-source", "the address is empty"); // It would mean the page's own URL.
  if (url.startsWith("#")) {
    throw new MicroYoloError("invalid-source", `text is an address, and ${shown(url)} a selector: give the element that it selects`);
  }
  if (url.length > 1000 && /^[\w+/=\s-]+$/.test(url)) {
    throw new MicroYoloError("invalid-source", `base64 text is no address: put "data:image/jpeg;base64," before ${shown(url)}`);
  }
  if (typeof createImageBitmap !== "function") throw noPictures();
  try {
    new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch (cause) {
    throw new MicroYoloError("invalid-source", `text is an address, and ${shown(url)} is none`, { cause });
  }
  let response;
  try {
    response = await fetch(url, { signal });
    if (response.ok) return await limitedBlob(response, shown(url));
    void response.body?.cancel().catch(() => {}); // An error page may have no end, and keeps its connection.
  } catch (cause) {
    if (cause instanceof MicroYoloError) throw cause;
    throw notFetched(url, cause);
  }
  throw new MicroYoloError("network", `${shown(url)} answered ${response.status}`);
}

/**
 * The body of a response, if it is not longer than a picture may be. Otherwise the download stops.
 * @param {Response} response
 * @param {string} address
 * @returns {Promise<Blob>}
 */
async function limitedBlob(response, address) {
  const { body, headers } = response;
  /** @type {MicroYoloError | undefined} */
  let refused;
  let bytes = 0;
  /** @param {number} more */
  const count = (more) => {
    bytes += more;
    if (bytes <= IMAGE_BYTES) return;
    refused = new MicroYoloError(
      "image-too-large",
      `${address} has more than the ${IMAGE_BYTES} bytes that are fetched for a picture: fetch it yourself, and give the Blob`,
    );
    throw refused;
  };
  try {
    // For a compressed response, content-length is the compressed size. The decompressed bytes are counted separately.
    count(Number(headers.get("content-length")) || 0);
    bytes = 0;
    if (!body) return await response.blob(); // A fetch() of the page's own may give no stream.
    // In one piece, because a Blob with several parts is not decoded everywhere.
    const content = await collected(observed(body, (chunk) => count(chunk.byteLength)));
    return new Blob([content], { type: headers.get("content-type") ?? "" });
  } catch (cause) {
    if (!refused) throw cause;
    if (!body?.locked) void body?.cancel().catch(() => {});
    throw refused;
  }
}

/**
 * @param {Blob} blob
 * @param {string} [what] what to call it
 * @returns {Promise<Drawing>}
 */
async function decoded(blob, what = "this picture") {
  const check = () => checkIntact(blob, what);
  try {
    const image = await bitmap(blob);
    return { image, width: image.width, height: image.height, ours: true, check };
  } catch (error) {
    if (!(error instanceof MicroYoloError) || error.code !== "invalid-image") throw error;
    await checkReadable(blob);
    // An element decodes more formats: SVG, and in Firefox 153 a Blob whose first part is very short.
    const image = typeof Image === "function" ? await element(blob).catch(() => undefined) : undefined;
    if (!image?.naturalWidth) throw undecodable(blob, what, error.cause);
    // Drawn on a canvas, because bitmaps of an SVG with HTML in it are tainted in Chromium (seen in 156), drawings are
    // not.
    const frame = { image: drawn(image), width: image.naturalWidth, height: image.naturalHeight, ours: false, check };
    if (!blob.type.startsWith("image/svg") && isNothing(frame)) throw damaged(what);
    return frame;
  }
}

/**
 * @param {Blob} blob
 * @param {string} what
 * @param {unknown} cause
 */
function undecodable({ size, type }, what, cause) {
  let message = `the browser cannot decode ${what}${type && ` (${type})`}`;
  if (!size) message = `${what} is empty: its file has 0 bytes`;
  if (/^video\//.test(type)) message = `${what} is a video (${type}): give a <video> that shows it`;
  return new MicroYoloError("invalid-image", message, { cause });
}

/**
 * Throws if the file of a picture is damaged.
 * @param {Blob} blob
 * @param {string} what
 */
async function checkIntact(blob, what) {
  if (!isIntact(new Uint8Array(await blob.arrayBuffer()))) throw damaged(what);
}

/**
 * @param {string} what
 * @param {string} [or]
 */
function damaged(what, or = "") {
  return new MicroYoloError("invalid-image", `nothing is seen of ${what}: its file is cut off or damaged${or}`);
}

/**
 * The same for an element. Its file is usually in the browser's cache. If it cannot be fetched (a revoked blob: URL), a
 * picture counts as damaged unless the browser knows better.
 * @param {HTMLImageElement} image
 * @param {string} address of the file, as it was when it was looked at
 */
async function checkElement(image, address) {
  const what = `the picture ${shown(address)}`;
  let blob;
  try {
    const credentials = image.crossOrigin === "use-credentials" ? "include" : "same-origin";
    const response = await fetch(address, { cache: "force-cache", credentials });
    if (response.ok) blob = await limitedBlob(response, shown(address));
  } catch {
    // What the browser makes of it has to tell.
  }
  if (blob) return checkIntact(blob, what);
  if (image.currentSrc !== address) return;
  if (!(await anyBitmap(image))) throw damaged(what);
  if (await anyBitmap(new Blob([CUT_OFF]))) throw damaged(what, ", or it has one colour throughout");
}

/**
 * The first bytes of a PNG of one pixel, up to its data. Firefox (seen in 153) makes a bitmap of them, Chromium none.
 */
// prettier-ignore
const CUT_OFF = new Uint8Array([
  137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82, 0, 0, 0, 1, 0, 0, 0, 1, 8, 6, 0, 0, 0, 31, 21, 196, 137,
  0, 0, 0, 13, 73, 68, 65, 84, 120, 156, 99,
]);

/**
 * Whether the browser makes any bitmap of a picture.
 * @param {HTMLImageElement | Blob} picture
 */
function anyBitmap(picture) {
  // With a size, because Chromium (seen in 156) makes none of an SVG without one.
  return createImageBitmap(picture, { resizeWidth: 1, resizeHeight: 1 }).then(
    (one) => {
      one.close();
      return true;
    },
    () => false,
  );
}

/**
 * Throws if the file of a Blob is gone: browsers report that as a picture that they cannot decode.
 * @param {Blob} blob
 */
async function checkReadable(blob) {
  try {
    // Chromium says that a removed file has no bytes, and only its whole cannot be read.
    await (blob.size ? blob.slice(0, 1) : blob).arrayBuffer();
  } catch (cause) {
    if (cause instanceof TypeError) return; // No Blob of the browser's own.
    const message = "the picture's Blob cannot be read: its file was changed or removed since it was chosen";
    throw new MicroYoloError("invalid-image", message, { cause });
  }
}

/** @param {HTMLImageElement} image */
function drawn(image) {
  const { naturalWidth: width, naturalHeight: height } = image;
  const scale = Math.min(1, CANVAS_SIDE / Math.max(width, height));
  const canvas = newCanvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** @param {Blob} blob */
async function element(blob) {
  const image = new Image();
  const url = URL.createObjectURL(blob);
  try {
    // For an SVG with HTML in it, Chromium (seen in 156) allows reading the pixels if it came from a data: URL. A
    // policy may forbid that.
    for (const address of blob.type.startsWith("image/svg") ? [await dataAddress(blob), url] : [url]) {
      image.src = address;
      if (await image.decode().then(() => true, () => false)) return image;
    }
  } finally {
    URL.revokeObjectURL(url);
  }
}

/**
 * @param {Blob} blob
 * @returns {Promise<string>} empty if it cannot be read
 */
function dataAddress(blob) {
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.onloadend = () => resolve(String(reader.result ?? ""));
    reader.readAsDataURL(blob);
  });
}

/**
 * The current picture as a separate bitmap. The orientation stored in the file is applied (the default).
 * @param {ImageBitmapSource} source
 */
async function bitmap(source) {
  if (typeof createImageBitmap !== "function") throw noPictures();
  try {
    return await createImageBitmap(source).catch(async (error) => {
      // For an SVG without a size, Chromium makes no bitmap, or an empty one if a size is given (seen in 156).
      const image = /** @type {HTMLImageElement} */ (source);
      if (!image.naturalWidth) throw error;
      const canvas = drawn(image);
      // Firefox (seen in 153) reports a size for a broken image too, and draws nothing, without an error.
      await image.decode().catch(() => {
        throw error;
      });
      // Of a file that is cut off before its first pixel, Chromium draws nothing.
      if (isNothing({ image: canvas }) && !(await anyBitmap(image))) throw error;
      return createImageBitmap(canvas);
    });
  } catch (cause) {
    throw (isCanvas(source) && (await canvasError(/** @type {HTMLCanvasElement} */ (source), cause))) || drawError(cause);
  }
}

/**
 * Whether a canvas made here has nothing on it.
 * @param {Pick<Drawing, "image">} drawing
 */
function isNothing({ image }) {
  try {
    return isBlank(/** @type {HTMLCanvasElement} */ (image));
  } catch (cause) {
    throw drawError(cause);
  }
}

/**
 * Why a browser makes no bitmap of a canvas that is neither tainted nor transferred.
 * @param {HTMLCanvasElement | OffscreenCanvas} canvas
 * @param {unknown} cause
 */
async function canvasError({ width, height }, cause) {
  if (/** @type {Error} */ (cause).name !== "InvalidStateError" || !width) return undefined;
  const other = newCanvas(width, height);
  other.getContext("2d");
  return createImageBitmap(other).then(
    // An OffscreenCanvas without a context (Chromium, seen in 156).
    () => new MicroYoloError("invalid-image", "nothing was drawn on the canvas yet", { cause }),
    () => tooLarge(width, height, cause),
  );
}

/**
 * @param {number} width
 * @param {number} height
 * @param {unknown} cause
 */
function tooLarge(width, height, cause) {
  const message = `a canvas of ${width} x ${height} px is larger than the browser can hold: scale the picture down`;
  return new MicroYoloError("image-too-large", message, { cause });
}

/** @param {unknown} image */
function isCanvas(image) {
  return /^(HTML|Offscreen)Canvas(Element)?$/.test(kindOf(image));
}

/**
 * Throws if nothing was drawn because it is impossible: for a canvas too large for memory, or a broken image, browsers
 * draw nothing, without an error.
 * @param {Drawing["image"]} image
 */
export async function checkDrawable(image) {
  if (isCanvas(image) || kindOf(image) === "HTMLImageElement") (await bitmap(image)).close();
}

function noPictures() {
  return new MicroYoloError("unsupported", "no pictures can be decoded here (Node?): give pixels as { data, width, height }");
}

/**
 * The error for a picture that the browser does not draw, or whose pixels it does not return.
 * @param {unknown} cause
 * @returns {MicroYoloError}
 */
export function drawError(cause) {
  const { name } = /** @type {Error} */ (cause);
  // A bitmap with pixels of another site can be created but not sent: DataCloneError.
  if (name === "SecurityError" || name === "DataCloneError") {
    return new MicroYoloError(
      "tainted",
      'the picture comes from another site without CORS, so its pixels are secret; load it with crossorigin="anonymous". Of an SVG with HTML in it give the Blob',
      { cause },
    );
  }
  return new MicroYoloError("invalid-image", "the browser cannot decode this picture", { cause });
}

/**
 * A copy for sending: a view would be sent with its whole buffer.
 * @param {Uint8Array | Uint8ClampedArray} pixels
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function copied(pixels) {
  try {
    return new Uint8Array(pixels); // Not slice(), which does not copy for Node's Buffer.
  } catch (cause) {
    if (cause instanceof RangeError) {
      throw new MicroYoloError("image-too-large", "there is no memory for a copy of the pixels", { cause });
    }
    throw gone(cause);
  }
}

/** @param {unknown} [cause] */
export function gone(cause) {
  return new MicroYoloError("invalid-image", "the pixels are gone: their buffer was transferred", { cause });
}
