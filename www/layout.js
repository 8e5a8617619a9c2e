// Where a picture and its labels lie on a canvas. No DOM.

/** @typedef {{ left: number, top: number, width: number, height: number }} Rect in canvas pixels */

/**
 * The area of `object-fit: contain`.
 * @param {{ width: number, height: number }} canvas
 * @param {{ width: number, height: number }} picture
 */
export function contained(canvas, picture) {
  const scale = Math.min(canvas.width / picture.width, canvas.height / picture.height);
  const [width, height] = [picture.width * scale, picture.height * scale];
  return { left: (canvas.width - width) / 2, top: (canvas.height - height) / 2, width, height, scale };
}

const covers = (a, b) =>
  a.left < b.left + b.width && b.left < a.left + a.width && a.top < b.top + b.height && b.top < a.top + a.height;

/**
 * A place for the label of each box: above it, inside at its top, below it, inside at its foot, else further down in
 * steps; the first that is free of labels placed earlier. Where all is taken it gets none.
 * @param {readonly { box: Rect, width: number, height: number }[]} labels the most important first; sizes of the label
 * @param {{ width: number, height: number }} canvas
 * @returns {(Rect | undefined)[]}
 */
export function placeLabels(labels, canvas) {
  /** @type {Rect[]} */
  const taken = [];
  return labels.map(({ box, width, height }) => {
    const clamp = (value, most) => Math.max(0, Math.min(value, most));
    const lefts = [box.left, box.left + box.width - width];
    const [first, last] = [Math.max(0, box.top), Math.min(canvas.height, box.top + box.height) - height];
    const tops = [box.top - height, first, box.top + box.height, last];
    for (let top = first + height; top < last; top += height) tops.push(top);
    for (const top of tops) {
      if (top < 0 || top + height > canvas.height) continue;
      for (const left of lefts) {
        const place = { left: clamp(left, canvas.width - width), top, width, height };
        if (taken.some((one) => covers(one, place))) continue;
        taken.push(place);
        return place;
      }
    }
    return undefined;
  });
}
