import type { DetectedObject } from "./index.js";

export interface DrawOptions {
  /** Size of the picture that the boxes refer to, in its own pixels: `naturalWidth`, `videoWidth`, `frame.width`. */
  width: number;
  height: number;
  /** How the picture lies in the canvas' area, as CSS `object-fit` does it (centred). Default `"fill"`. */
  fit?: "fill" | "contain" | "cover" | "none" | "scale-down" | undefined;
  /** The picture is shown mirrored (a front camera): boxes are mirrored, their text is not. Default false. */
  mirror?: boolean | undefined;
  /**
   * The text on a box; "" for none. Default: label and score in percent, with the track's number if there is one. It is
   * shortened where the canvas is too narrow.
   */
  label?: ((object: DetectedObject) => string) | undefined;
  /** CSS colour of a box. Default: `classColor` of its class. Text on a dark one is white. */
  color?: ((object: DetectedObject) => string) | undefined;
  /** The one of `objects` that is pointed at: its line is twice as thick, the others are pale. Default: none. */
  highlighted?: DetectedObject | undefined;
  /** In CSS pixels. Default 2. */
  lineWidth?: number | undefined;
  /** CSS font, its size in px. Default `"600 13px system-ui, sans-serif"`. */
  font?: string | undefined;
  /** Canvas pixels for each CSS pixel. Default: `devicePixelRatio`; 1 for an `OffscreenCanvas`. */
  pixelRatio?: number | undefined;
}

/**
 * Clears the canvas, makes it as fine as the screen (`width` and `height` follow its CSS size), and draws a box with
 * label for each object. Labels do not cover each other: where there is no room, the least sure get none. With tracks,
 * those that were seen first get the first places, so that labels do not jump.
 *
 * ```js
 * drawObjects(canvas, await detector.detect(video), { width: video.videoWidth, height: video.videoHeight });
 * ```
 */
export function drawObjects(
  canvas: HTMLCanvasElement | OffscreenCanvas,
  objects: readonly DetectedObject[],
  options: DrawOptions,
): void;

/** The CSS colour that `drawObjects` gives a class. Each of 80 classes has its own, so some are alike. */
export function classColor(classId: number): string;

/**
 * A function that gives each class the next of twelve colours when it first meets it, and keeps to it: what is seen together
 * is far apart. Make it once.
 *
 * ```js
 * const color = createPalette();
 * drawObjects(canvas, objects, { width, height, color });
 * ```
 */
export function createPalette(): (object: { label: string }) => string;
