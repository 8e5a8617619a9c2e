// Determines the kind of a file.

/**
 * Some servers and systems give a video no type, or a generic one.
 * @param {{ type?: string, name: string }} file
 */
export function isVideoFile({ type = "", name }) {
  if (type.startsWith("video/")) return true;
  return (type === "" || type === "application/octet-stream") && /\.(mp4|webm|mov|m4v)$/i.test(name);
}

/** How files begin, as text with a character for each byte, and their types. The first that matches counts. */
const BEGINNINGS = /** @type {const} */ ([
  [/^\xff\xd8\xff/, "image/jpeg"],
  [/^.PNG\r\n/s, "image/png"],
  [/^GIF8/, "image/gif"],
  [/^RIFF....WEBP/s, "image/webp"],
  [/^BM....\0\0\0\0/s, "image/bmp"],
  [/^(II\*\0|MM\0\*)/, "image/tiff"],
  [/^(\xff\n|\0\0\0.JXL )/s, "image/jxl"],
  [/^....ftyp(avi[fs]|m[is]f1.{4,40}avi[fs])/s, "image/avif"],
  [/^....ftyp(hei|hev|m[is]f1)/s, "image/heic"],
  [/^(\xef\xbb\xbf)?\s*((<\?[^>]*>|<!--((?!-->)[^])*-->|<!DOCTYPE[^>[]*(\[[^\]]*\])?>)\s*)*<svg[\s>]/, "image/svg+xml"],
  [/^(....ftypqt|\0...(moov|mdat|wide|free|skip))/s, "video/quicktime"],
  [/^....ftyp/s, "video/mp4"],
  [/^.E\xdf\xa3.{0,80}matroska/s, "video/x-matroska"],
  [/^.E\xdf\xa3/s, "video/webm"],
  [/^OggS/, "video/ogg"],
  [/^\0\0[^\0]\0/, "image/x-icon"],
]);

/**
 * What a file is by its content, whatever its name says: names are often wrong, and browsers trust the type that they
 * derive from the name for videos and SVG.
 * @param {Blob & { name: string }} file
 * @returns {Promise<{ blob: Blob, isVideo: boolean, isKnown: boolean }>} `blob`: the file with its true type; `isKnown`:
 *   whether it is or claims to be a picture or a video
 */
export async function recognise(file) {
  const head = await textOf(file, 0x1000).catch(() => ""); // It may have been deleted; then it does not open either.
  const type = BEGINNINGS.find(([pattern]) => pattern.test(head))?.[1];
  if (!type) return { blob: file, isVideo: isVideoFile(file), isKnown: isVideoFile(file) || file.type.startsWith("image/") };
  const blob = file.type === type ? file : file.slice(0, file.size, type);
  return { blob, isVideo: type.startsWith("video/"), isKnown: true };
}

/**
 * Whether a file is still where it was when it was chosen, and unchanged.
 * @param {Blob} file
 */
export const isReadable = (file) =>
  file.slice(0, 1).arrayBuffer().then(
    () => true,
    () => false,
  );

/**
 * The first bytes of a file, each as a character.
 * @param {Blob} file
 * @param {number} length
 */
async function textOf(file, length) {
  return new TextDecoder("latin1").decode(await file.slice(0, length).arrayBuffer());
}

/** How files of pictures that do not move begin, as text: JPEG, PNG, WebP, AVIF and BMP. GIF and SVG may move. */
const STILL = [/^\xff\xd8/, /^.PNG(?![^]*acTL)/, /^RIFF....WEBP(?![^]*ANIM)/s, /^....ftypavif/s, /^BM/];

/**
 * Whether a picture may be animated: a box then fits only the frame that was processed.
 * @param {Blob} file
 */
export async function mayMove(file) {
  const head = await textOf(file, 0x10000); // The mark of an animation precedes the pixels.
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
