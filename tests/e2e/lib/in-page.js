// Runs in the browser under test: pictures with one red rectangle in a known place, which the model red-spot.onnx finds.

export const MODEL = "/fixtures/red-spot.onnx";

/** A grey picture with a red rectangle. */
export function spotCanvas(width, height, { x, y, w, h }) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "rgb(110 120 130)";
  context.fillRect(0, 0, width, height);
  context.fillStyle = "rgb(255 0 0)";
  context.fillRect(x, y, w, h);
  return canvas;
}

export function blobOf(canvas, type = "image/png") {
  return new Promise((resolve) => canvas.toBlob(resolve, type, 0.95));
}

/** An image element with this picture, loaded. */
export async function imageOf(blob) {
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  await image.decode();
  return image;
}

/** A playing video that shows the canvas. `repaint` is called for each of its frames. */
export async function videoOf(canvas, repaint = () => {}) {
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
  const timer = setInterval(() => {
    repaint();
    // A stream of a canvas has a frame only where something was drawn.
    const context = canvas.getContext("2d");
    context.fillStyle = `rgb(110 120 ${128 + Math.round(Math.random() * 8)})`;
    context.fillRect(0, 0, 2, 2);
  }, 30);
  video.srcObject = canvas.captureStream(30);
  document.body.append(video);
  await video.play();
  return {
    video,
    stop() {
      clearInterval(timer);
      for (const track of video.srcObject.getTracks()) track.stop();
      video.remove();
    },
  };
}

/** The JPEG with an orientation written into it, as a camera does. */
export async function oriented(jpeg, orientation) {
  const bytes = new Uint8Array(await jpeg.arrayBuffer());
  // prettier-ignore
  const exif = [
    0xff, 0xe1, 0, 34, 0x45, 0x78, 0x69, 0x66, 0, 0, // APP1, 34 bytes, "Exif"
    0x4d, 0x4d, 0, 42, 0, 0, 0, 8, // big-endian TIFF, first directory at 8
    0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, // one entry: orientation, one short
    0, 0, 0, 0, // no more directories
  ];
  return new Blob([bytes.slice(0, 2), new Uint8Array(exif), bytes.slice(2)], { type: "image/jpeg" });
}

/** The film of a file, in the page, not played. `once` awaits one of its events. */
export function film(source) {
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, src: source });
  document.body.append(video);
  return { video, once: (event) => new Promise((resolve) => video.addEventListener(event, resolve, { once: true })) };
}

/** Which frame of spot.* shows objects like these; see fixtures/films.sh. */
export const frameOf = ([spot]) => (spot ? Math.round((spot.box.x - 8) / 8) : "nothing");

/** What a failed promise says, in plain data. */
export async function failure(work) {
  try {
    await (typeof work === "function" ? work() : work);
  } catch (error) {
    return { name: error.name, code: error.code, message: error.message, isError: error instanceof Error };
  }
  return { code: "nothing thrown" };
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
