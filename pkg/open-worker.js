// Starts one of this package's workers, also where the package comes from another origin than the page.
import { MicroYoloError } from "./error.js";

/**
 * @param {string} file the script, beside this file
 * @param {() => Worker} start makes the worker, where the package is the page's own: with the address written out, since
 * bundlers look for exactly that
 * @returns {{ worker: Worker, release: () => void }} `release` once the script runs, or never will
 */
export function openWorker(file, start) {
  if (typeof Worker !== "function") {
    throw new MicroYoloError("unsupported", "here are no workers; load with `worker: false`");
  }
  try {
    const foreign = foreignHome(file);
    if (foreign === undefined) return { worker: start(), release() {} };
    // From a CDN: a worker must come from the page's own origin, but may import from anywhere.
    const script = new Blob([`import ${JSON.stringify(foreign)};`], { type: "text/javascript" });
    const url = URL.createObjectURL(script);
    return { worker: new Worker(url, { type: "module" }), release: () => URL.revokeObjectURL(url) };
  } catch (cause) {
    throw new MicroYoloError("worker-failed", "the browser refused a worker; load with `worker: false`", { cause });
  }
}

/**
 * The script's address, if this package was loaded from another origin than the page's.
 * @param {string} file
 */
function foreignHome(file) {
  const home = import.meta.url;
  if (!/^https?:/.test(home) || new URL(home).origin === globalThis.location?.origin) return undefined;
  return home.replace(/[^/]*$/, file);
}
