// Determines the kind of a file.

/**
 * Some servers and systems give a video no type, or a generic one.
 * @param {{ type?: string, name: string }} file
 */
export function isVideoFile({ type = "", name }) {
  if (type.startsWith("video/")) return true;
  return (type === "" || type === "application/octet-stream") && /\.(mp4|webm|mov|m4v)$/i.test(name);
}

/** How files of pictures that do not move begin, as text: JPEG, PNG, WebP, AVIF and BMP. GIF and SVG may move. */
const STILL = [/^\xff\xd8/, /^.PNG(?![^]*acTL)/, /^RIFF....WEBP(?![^]*ANIM)/s, /^....ftypavif/s, /^BM/];

/**
 * Whether a picture may be animated: a box then fits only the frame that was processed.
 * @param {Blob} file
 */
export async function mayMove(file) {
  const bytes = new Uint8Array(await file.slice(0, 0x10000).arrayBuffer()); // The mark of an animation precedes the pixels.
  const head = new TextDecoder("latin1").decode(bytes); // A character for each byte.
  return !STILL.some((pattern) => pattern.test(head));
}

/**
 * The files of a drop or the clipboard. Browsers also list folders as files, which cannot be read.
 * @param {DataTransfer} data
 * @returns {File[]}
 */
export function filesIn({ items, files }) {
  const entries = [...items].filter(({ kind }) => kind === "file");
  return [...files].filter((_, index) => !entries[index]?.webkitGetAsEntry?.()?.isDirectory);
}

/** @param {{ name: string }} file */
export const isModelFile = ({ name }) => /\.onnx$/i.test(name);
