// Determines the kind of a file. No DOM.

/**
 * Some servers and systems give a video no type, or a generic one.
 * @param {{ type?: string, name: string }} file
 */
export function isVideoFile({ type = "", name }) {
  if (type.startsWith("video/")) return true;
  return (type === "" || type === "application/octet-stream") && /\.(mp4|webm|mov|m4v)$/i.test(name);
}

/** @param {{ name: string }} file */
export const isModelFile = ({ name }) => /\.onnx$/i.test(name);
