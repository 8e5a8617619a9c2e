// Whether the file of a picture is whole. Of a file that was cut off, or overwritten with zeros, browsers show what came
// before that. If it is nothing, they show one colour, or nothing, without an error.

/**
 * @param {Uint8Array} bytes of a file
 * @returns {boolean} also true for a format that is not known here
 */
export function isIntact(bytes) {
  const head = String.fromCharCode(...bytes.subarray(0, 12)); // One character for each byte.
  const format = FORMATS.find(({ magic }) => magic.test(head));
  try {
    return format?.ends(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)) ?? true;
  } catch (error) {
    if (error instanceof RangeError) return false; // Something was to follow after the last byte.
    throw error;
  }
}

/** @type {{ magic: RegExp, ends: (view: DataView) => boolean }[]} */
const FORMATS = [
  { magic: /^\x89PNG/, ends: pngEnds },
  { magic: /^\xff\xd8/, ends: jpegEnds },
  { magic: /^GIF8/, ends: gifEnds },
  { magic: /^RIFF....WEBP/s, ends: (view) => 8 + view.getUint32(4, true) <= view.byteLength },
  { magic: /^BM/, ends: (view) => view.getUint32(2, true) <= view.byteLength },
  { magic: /^....ftyp/s, ends: avifEnds },
];

/** @param {DataView} view */
function pngEnds(view) {
  for (let at = 8; view.getUint32(at + 4) !== 0x49454e44 /* IEND */; at += 12 + view.getUint32(at));
  return true;
}

/** @param {DataView} view */
function jpegEnds(view) {
  let at = 2;
  // Segments up to the first scan: the thumbnail in one of them has an end of its own.
  for (let marker; (marker = view.getUint16(at)) !== 0xffda; ) {
    if (marker < 0xff00) return false;
    at += marker === 0xffff ? 1 : 2 + view.getUint16(at + 2); // Any number of 0xff may precede a marker.
  }
  while (view.getUint16(at) !== 0xffd9) at += 1;
  return true;
}

/**
 * Whether the first picture is whole. Others of an animation may be missing.
 * @param {DataView} view
 */
function gifEnds(view) {
  const afterBlocks = (/** @type {number} */ at) => {
    for (let size; (size = view.getUint8(at)); at += 1 + size);
    return at + 1;
  };
  const colors = (/** @type {number} */ flags) => (flags & 0x80 ? 3 * 2 ** ((flags & 7) + 1) : 0);
  let at = 13 + colors(view.getUint8(10));
  while (view.getUint8(at) === 0x21 /* extension */) at = afterBlocks(at + 2);
  if (view.getUint8(at) !== 0x2c /* picture */) return false;
  at += 11 + colors(view.getUint8(at + 9));
  return view.getUint8(at) > 0 && afterBlocks(at) <= view.byteLength;
}

/** @param {DataView} view */
function avifEnds(view) {
  let at = 0;
  while (at < view.byteLength) {
    const size = view.getUint32(at);
    if (size === 0) return true; // It reaches to the end of the file.
    if (size !== 1 && size < 8) return false;
    at += size === 1 ? Number(view.getBigUint64(at + 8)) : size;
  }
  return at === view.byteLength;
}
