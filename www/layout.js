// The position of a picture on a canvas. No DOM.

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
