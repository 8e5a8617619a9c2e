// The position of a picture in the element around it, as the browser shows it: borders, padding, `object-fit`,
// `object-position` and transforms of the picture and of the elements in between.

/** @typedef {{ x: number, y: number, width: number, height: number }} Box */

/**
 * @typedef {object} Overlay A canvas over the content area of the picture.
 * @property {number} width in CSS pixels
 * @property {number} height
 * @property {string} transform CSS, about its first corner
 * @property {(canvas: HTMLElement) => { x: number, y: number } | undefined} distance how far a canvas of this size, with
 *   this transform, must be moved to lie over the picture, in CSS pixels of the element around it. Measured, because
 *   browsers differ in where an inline element of several lines, or in several columns, begins. undefined if it is hidden
 *   or scaled to nothing
 * @property {(box: Box) => Box} place converts a box from pixels of the picture to those of the canvas
 */

/**
 * Mirroring and quarter turns are applied to the boxes, so that text on the canvas stays readable. Any other angle is
 * in the transform.
 *
 * @param {HTMLElement} media
 * @param {HTMLElement} host the element around it, relative to which the canvas is positioned
 * @param {{ width: number, height: number }} size of the picture, in its own pixels
 * @returns {Overlay | undefined} undefined if nothing is visible
 */
export function overlay(media, host, size) {
  const style = getComputedStyle(media);
  const content = contentArea(style);
  if (!(content.width > 0 && content.height > 0 && size.width > 0 && size.height > 0)) return undefined;
  const view = viewBox(style, size);
  if (!(view.width > 0 && view.height > 0)) return undefined;
  const picture = fitted(style, content, view);

  // CSS lengths are before zoom, rectangles on the screen after it.
  const inside = linear(media, host).scale(zoom(media) / zoom(host));
  const outside = linear(host, null).scale(zoom(host));
  // The canvas' axes: of the picture's axes, the one that points more to the right on the screen, and the one that
  // points more down.
  const screen = outside.multiply(inside);
  const turned = Math.abs(screen.a) + Math.abs(screen.d) < Math.abs(screen.b) + Math.abs(screen.c);
  const flipX = (turned ? screen.c : screen.a) < 0;
  const flipY = (turned ? screen.b : screen.d) < 0;
  const axes = [
    { x: inside.a, y: inside.b, length: content.width },
    { x: inside.c, y: inside.d, length: content.height },
  ];
  if (turned) axes.reverse();
  const [across, down] = axes.map(({ x, y, length }, index) => {
    const flip = index ? flipY : flipX;
    const scale = Math.hypot(x, y);
    const direction = flip ? -scale : scale;
    return { x: x / direction, y: y / direction, flip, scale, length: scale * length };
  });
  if (!(across.length > 0 && down.length > 0)) return undefined;

  const axesOnly = [across.x, across.y, down.x, down.y].map((one) => one.toFixed(6)).join();
  return {
    width: across.length,
    height: down.length,
    transform: /^1.0+,-?0.0+,-?0.0+,1.0+$/.test(axesOnly) ? "none" : `matrix(${axesOnly},0,0)`,
    distance(canvas) {
      // Rectangles on the screen are those after transforms. An affine map preserves centres.
      const [from, to] = [canvas, media].map((one) => one.getBoundingClientRect());
      if (!(from.width > 0 && from.height > 0)) return undefined;
      // What is known of no style scales the rectangles too: the viewBox of an SVG around, and perspective.
      const shown = outside.multiply(new DOMMatrix([across.x, across.y, down.x, down.y, 0, 0]));
      const [width, height] = [
        [shown.a, shown.c],
        [shown.b, shown.d],
      ].map(([a, b]) => Math.abs(a) * across.length + Math.abs(b) * down.length);
      const ratio = Math.hypot(from.width, from.height) / Math.hypot(width, height);
      const scale = Math.abs(ratio - 1) < 0.02 ? 1 : ratio; // Browsers round.
      const { x, y } = screen.transformPoint(content);
      const away = outside.inverse().transformPoint({
        x: x + (to.x - from.x + (to.width - from.width) / 2) / scale,
        y: y + (to.y - from.y + (to.height - from.height) / 2) / scale,
      });
      return Number.isFinite(away.x + away.y) ? away : undefined;
    },
    place(box) {
      const sides = [
        { at: picture.x + (box.x - view.x) * picture.scaleX, length: box.width * picture.scaleX },
        { at: picture.y + (box.y - view.y) * picture.scaleY, length: box.height * picture.scaleY },
      ];
      if (turned) sides.reverse();
      const [x, y] = [across, down].map(({ flip, scale, length: whole }, index) => {
        const at = sides[index].at * scale;
        const length = sides[index].length * scale;
        return { at: flip ? whole - at - length : at, length };
      });
      return { x: x.at, y: y.at, width: x.length, height: y.length };
    },
  };
}

/**
 * The element that an absolutely positioned one is relative to: its host, unless the page has made that `static` or
 * without a box.
 * @param {HTMLElement} placed
 * @param {HTMLElement} host
 */
export function placedIn(placed, host) {
  const { body, documentElement } = host.ownerDocument;
  const parent = /** @type {HTMLElement | null} */ (placed.offsetParent) ?? host;
  // If there is none, offsetParent is the body.
  return parent === body && getComputedStyle(body).position === "static" ? documentElement : parent;
}

/**
 * Whether the picture moves in the element when something around the element is scrolled.
 * @param {HTMLElement} media
 * @param {HTMLElement} host
 */
export function movesByScroll(media, host) {
  for (let one = /** @type {Element | null} */ (media); one && one !== host; one = parentOf(one)) {
    if (/^(fixed|sticky)$/.test(getComputedStyle(one).position)) return true;
  }
  return false;
}

/**
 * Whether the place of a canvas is given as `right` instead of `left`. In an inline element from right to left, and of
 * upright lines, Firefox (seen in 153) measures `left` from another place at each layout.
 * @param {HTMLElement} canvas
 * @param {HTMLElement} host
 */
export function fromRight(canvas, host) {
  const { direction, display, writingMode } = getComputedStyle(placedIn(canvas, host));
  return display === "inline" && (writingMode === "horizontal-tb" ? direction === "rtl" : writingMode.endsWith("-rl"));
}

/**
 * Size of the area in which the picture is shown, and the offset of its centre from that of the whole box with border
 * and padding. Before transforms.
 * @param {CSSStyleDeclaration} style
 */
function contentArea(style) {
  /** @param {string} property */
  const pixels = (property) => parseFloat(style.getPropertyValue(property));
  const [left, right, top, bottom] = ["left", "right", "top", "bottom"].map(
    (side) => pixels(`border-${side}-width`) + pixels(`padding-${side}`),
  );
  const edges = style.boxSizing === "border-box" ? 1 : 0; // They are in width and height then.
  return {
    width: pixels("width") - edges * (left + right),
    height: pixels("height") - edges * (top + bottom),
    x: (left - right) / 2,
    y: (top - bottom) / 2,
  };
}

/**
 * The factor of CSS `zoom`, including that of all ancestors. It is rarely used in browsers without `currentCSSZoom`.
 * @param {Element & { currentCSSZoom?: number }} element
 */
function zoom({ currentCSSZoom = 1 }) {
  return currentCSSZoom;
}

/** The values of a list, which may be functions with nested brackets. */
const VALUES = /[^\s(]*\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)|\S+/g;

/**
 * The part of the picture that is shown, from `object-view-box`: its computed value is none or an inset().
 * @param {CSSStyleDeclaration} style
 * @param {{ width: number, height: number }} size
 */
function viewBox(style, { width, height }) {
  const inset = /^inset\((.*?)(?: round .*)?\)$/.exec(style.getPropertyValue("object-view-box"))?.[1].match(VALUES) ?? ["0px"];
  const [top, right = top, bottom = top, left = right] = inset;
  const x = resolved(left, width);
  const y = resolved(top, height);
  return { x, y, width: width - x - resolved(right, width), height: height - y - resolved(bottom, height) };
}

/**
 * The position of the picture in its area, from `object-fit` and `object-position`.
 * @param {CSSStyleDeclaration} style
 * @param {{ width: number, height: number }} area
 * @param {{ width: number, height: number }} size
 */
function fitted({ objectFit, objectPosition }, area, size) {
  let scaleX = area.width / size.width;
  let scaleY = area.height / size.height;
  if (objectFit !== "fill") {
    const contain = Math.min(scaleX, scaleY);
    const scale = { contain, cover: Math.max(scaleX, scaleY), none: 1 }[objectFit] ?? Math.min(1, contain);
    scaleX = scaleY = scale;
  }
  // Two lengths. Each may contain a percentage of the free space, possibly in calc().
  const [x = "50%", y = "50%"] = objectPosition.match(VALUES) ?? [];
  return {
    scaleX,
    scaleY,
    x: resolved(x, area.width - size.width * scaleX),
    y: resolved(y, area.height - size.height * scaleY),
  };
}

/**
 * @param {string} length CSS, absolute except for percentages
 * @param {number} whole 100 %, in pixels
 */
function resolved(length, whole) {
  const absolute = length.replace(/(-?[\d.e+-]+)%/g, (_, percent) => `${(Number(percent) * whole) / 100}px`);
  try {
    return new DOMMatrix(`translateX(${absolute})`).e;
  } catch {
    return whole / 2;
  }
}

/**
 * The linear part of the transforms from an element (included) to an ancestor, without translations. Perspective is
 * ignored.
 * @param {HTMLElement} from
 * @param {Element | null} to
 */
function linear(from, to) {
  let matrix = new DOMMatrix();
  for (let one = /** @type {Element | null} */ (from); one && one !== to; one = parentOf(one)) {
    const { display, rotate = "none", scale = "none", transform } = getComputedStyle(one);
    // Inline boxes other than pictures, and elements without a box, are not transformed.
    if (/^(inline|contents)$/.test(display) && !/^(img|video|canvas)$/.test(one.localName)) continue;
    const turns = rotate.split(" ");
    const turn = turns.length === 2 ? `rotate${turns.join("(")})` : `rotate${turns.length === 4 ? "3d" : ""}(${turns.join()})`;
    const scales = scale.split(" ");
    const own = new DOMMatrix(
      (rotate === "none" ? "" : turn) +
        (scale === "none" ? "" : `scale${scales.length === 3 ? "3d" : ""}(${scales.join()})`) +
        (transform === "none" ? "" : transform),
    );
    // As on the screen: what is rotated out of the plane is projected.
    matrix = new DOMMatrix([own.a, own.b, own.c, own.d, 0, 0]).multiply(matrix);
  }
  return matrix;
}

/**
 * The parent in the displayed tree, which includes shadow trees.
 * @param {Element} one
 * @returns {Element | null}
 */
function parentOf(one) {
  return one.assignedSlot ?? one.parentElement ?? /** @type {ShadowRoot | null} */ (one.parentNode)?.host ?? null;
}
