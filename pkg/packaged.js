// Finds the package's own files: next to its modules, unless a bundler moved one without the other.
import { MicroYoloError, shown } from "./error.js";
import { builtin } from "./platform.js";

/** @type {Set<string>} Addresses given out so far, to tell them from those that a user named. */
const own = new Set();

/**
 * A file of the package: its URL, or in Node, whose fetch() reads no files, its content.
 * @param {() => URL} address with `new URL("./FILE", import.meta.url)` written out, because bundlers look for exactly this form
 * @returns {URL | Promise<Uint8Array>}
 */
export function packaged(address) {
  let url;
  try {
    url = located(address());
  } catch (cause) {
    throw new MicroYoloError(
      "unsupported",
      "the package's files cannot be found from here, for this module has no address that they could be beside (it is " +
        "part of a classic script, or from a blob: or data: URL): import `micro-yolo/inline`, which needs none, or name " +
        "`wasm` and `model`",
      { cause },
    );
  }
  own.add(url.href);
  const files = url.protocol === "file:" ? builtin("node:fs/promises") : undefined;
  return files ? read(files, url.href) : url;
}

/**
 * @param {{ readFile: (path: string) => Promise<Uint8Array> }} files
 * @param {string} url
 */
async function read(files, url) {
  try {
    return await files.readFile(builtin("node:url").fileURLToPath(url));
  } catch (cause) {
    throw new MicroYoloError("network", `${shown(url)} could not be read${remedy(url)}`, { cause });
  }
}

/**
 * The actual location of a file of the package. The development server of Vite 5 to 7 copies a dependency's modules to
 * `node_modules/.vite/deps`, but not the files to which they refer.
 * @param {string | URL} address
 */
export function located(address) {
  // Turbopack makes relative addresses.
  const url = new URL(address, globalThis.document?.baseURI ?? globalThis.location?.href);
  return /^https?:$/.test(url.protocol) ? new URL(url.href.replace("/.vite/deps/", "/micro-yolo/")) : url;
}

/**
 * Advice for the case that `url` does not return the file; empty if it is not a file of the package.
 * @param {string} url
 */
export function remedy(url) {
  if (!own.has(url)) return "";
  return (
    ". It is a file of this package: import `micro-yolo/inline`, which needs no file, have the bundler put it there, or " +
    "name `wasm` and `model`"
  );
}
