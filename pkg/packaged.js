// Finds the package's own files: next to its modules, unless a bundler moved one without the other.
import { MicroYoloError, shown } from "./error.js";
import { builtin } from "./platform.js";

/** @type {Set<string>} Addresses given out so far, to tell them from those that a user named. */
const own = new Set();

/**
 * A file of the package: its URL, or in Node, whose fetch() reads no files, its content.
 * @param {() => URL} address `located(new URL("./FILE", import.meta.url))`, written out, because bundlers look for exactly
 * this form. Without the call of `located` there, the tracer of Nuxt's server and of Vercel (@vercel/nft, seen in 1.11)
 * misses the file.
 * @returns {URL | Promise<Uint8Array>}
 */
export function packaged(address) {
  let url;
  try {
    url = address();
  } catch (cause) {
    throw new MicroYoloError(
      "unsupported",
      "the package's files cannot be found from here, for this module has no address that they could be beside (it is " +
        "part of a classic script, from a blob: or data: URL, or in a runtime without addresses): import " +
        "`micro-yolo/inline`, which needs none, or name `wasm` and `model`",
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
 * The folder to which the development server of Vite 5 to 7 copies a dependency's modules, but not the files to which they
 * refer: `node_modules/.vite/deps`, in Nuxt `node_modules/.cache/vite/client/deps`, in Vitest
 * `node_modules/.vite/vitest/NAME/deps`.
 */
const COPIES = /\/node_modules\/\..*?\/deps\//;

/**
 * The actual location of a file of the package.
 * @param {string | URL} address
 */
export function located(address) {
  // Turbopack makes relative addresses.
  const url = new URL(address, globalThis.document?.baseURI ?? globalThis.location?.href);
  if (/^https?:$/.test(url.protocol)) url.pathname = url.pathname.replace(COPIES, "/node_modules/micro-yolo/");
  return url;
}

/**
 * Advice for the case that `url` does not return the file; empty if it is not a file of the package.
 * @param {string} url
 */
export function remedy(url) {
  if (!own.has(url)) return "";
  const vite = /^http/.test(url) ? ' (in Vite\'s development server: `optimizeDeps: { exclude: ["micro-yolo"] }`)' : "";
  return (
    ". It is a file of this package: import `micro-yolo/inline`, which needs no file, have the bundler put it there" +
    `${vite}, or name \`wasm\` and \`model\``
  );
}
