import type { DetectedObject } from "./index.js";

export interface DrawOptions {
  /** Size of the picture that the boxes refer to, in its own pixels: `naturalWidth`, `videoWidth`, `frame.width`. */
  width: number;
  height: number;
  /** How the picture is fitted into the canvas' area, like CSS `object-fit` (centred). Default `"fill"`. */
  fit?: "fill" | "contain" | "cover" | "none" | "scale-down" | undefined;
  /** The picture is shown mirrored (a front camera): boxes are mirrored, their text is not. Default false. */
  mirror?: boolean | undefined;
  /**
   * The text on a box; "" for none. Default: label and score in percent, with the track's number if there is one. It is
   * shortened if the canvas is too narrow.
   */
  label?: ((object: DetectedObject) => string) | undefined;
  /** CSS colour of a box. Default: `classColor` of its class. Text on a dark colour is white. */
  color?: ((object: DetectedObject) => string) | undefined;
  /** One of `objects` to highlight: its outline is twice as thick, and the others are pale. Default: none. */
  highlighted?: DetectedObject | undefined;
  /** In CSS pixels. Default 2. */
  lineWidth?: number | undefined;
  /** CSS font, its size in px. Default `"600 13px system-ui, sans-serif"`. */
  font?: string | undefined;
  /** Canvas pixels for each CSS pixel. Default: `devicePixelRatio`; 1 for an `OffscreenCanvas`. */
  pixelRatio?: number | undefined;
}

/**
 * Clears the canvas, sets its resolution to that of the screen (`width` and `height` follow its CSS size), and draws a
 * box with a label for each object. A canvas without a CSS size keeps its `width` and `height`.
 *
 * Labels do not cover each other: if there is no room, those with the lowest scores are left out. With tracks, labels of
 * objects that were detected first are placed first, so that labels do not jump.
 *
 * ```js
 * drawObjects(canvas, await detector.detect(video), { width: video.videoWidth, height: video.videoHeight });
 * ```
 *
 * @throws {MicroYoloError} `invalid-option` if `canvas` is none, was transferred to a worker or has a context of another
 * kind (WebGL, WebGPU, `bitmaprenderer`), and if `objects` is no array.
 */
export function drawObjects(
  canvas: HTMLCanvasElement | OffscreenCanvas,
  objects: readonly DetectedObject[],
  options: DrawOptions,
): void;

/** The default CSS colour of a class in `drawObjects`. Each of 80 classes has its own colour, so some look alike. */
export function classColor(classId: number): string;

/**
 * Returns a function that assigns the next of twelve colours to each class when it first occurs, and keeps it. So classes
 * in the same picture are easy to distinguish. Create it once.
 *
 * ```js
 * const color = createPalette();
 * drawObjects(canvas, objects, { width, height, color });
 * ```
 */
export function createPalette(): (object: { label: string }) => string;
