// Starts one of this package's workers, wherever a bundler and a host have put its script.
import { MicroYoloError, shown } from "./error.js";
import { located } from "./packaged.js";

/**
 * @typedef {object} OpenWorker
 * @property {Worker} worker
 * @property {string} address of its script
 * @property {() => void} release to be called once the script runs, or never will
 */

/**
 * @param {() => Worker} start makes the worker
 * @returns {OpenWorker}
 */
export function openWorker(start) {
  const Native = globalThis.Worker;
  if (typeof Native !== "function") {
    throw new MicroYoloError("unsupported", "no workers are available here: load with `worker: false`");
  }
  /** @type {OpenWorker | undefined} */
  let opened;
  try {
    // Only the call that the bundler has rewritten knows the address of the script, and the address may have to be
    // changed. So the class `Worker` is replaced during this one call, which runs nothing else. If a page has made it
    // read-only, the address stays as it is.
    /** @type {(address: string | URL, options?: WorkerOptions) => Worker} */
    const At = function (address, options) {
      opened = openAt(Native, address, options);
      return opened.worker;
    };
    Reflect.set(globalThis, "Worker", At);
    const worker = start();
    return opened ?? { worker, address: "", release() {} };
  } catch (cause) {
    const where = opened ? ` ${shown(opened.address)}` : "";
    throw new MicroYoloError("worker-failed", `the browser refused the worker${where}`, { cause });
  } finally {
    Reflect.set(globalThis, "Worker", Native);
  }
}

/**
 * @param {typeof Worker} Native
 * @param {string | URL} given
 * @param {WorkerOptions} [options]
 * @returns {OpenWorker}
 */
function openAt(Native, given, options) {
  const url = located(given);
  const address = url.href;
  if (isOwn(url)) return { worker: new Native(/** @type {any} */ (trusted(address)), options), address, release() {} };
  // The script may be on a CDN, in an extension, or the page in a sandbox: a worker must have the page's own origin,
  // but may import from anywhere.
  const isModule = options?.type === "module";
  const name = JSON.stringify(address);
  let script = isModule ? `import ${name};` : `importScripts(${name});`;
  if (isModule && globalThis.origin === "null") {
    // In a sandbox, Chromium (seen in 156) starts no module from a blob: URL, but a classic script from there may
    // import one.
    options = undefined;
    script = importing(name);
  }
  const blob = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const release = () => URL.revokeObjectURL(blob);
  try {
    return { worker: new Native(/** @type {any} */ (trusted(blob + url.hash)), options), address, release };
  } catch (error) {
    release();
    throw error;
  }
}

/**
 * A classic script that imports a module. Messages that arrive before the module is loaded are queued, because they
 * would be lost otherwise. A module that cannot be loaded is an error of the worker, as for a module worker.
 * @param {string} name quoted
 */
const importing = (name) => `
  const early = [];
  const keep = ({ data }) => early.push(data);
  addEventListener("message", keep);
  import(${name}).then(
    () => {
      removeEventListener("message", keep);
      for (const data of early) dispatchEvent(new MessageEvent("message", { data }));
    },
    (error) => setTimeout(() => { throw error; }),
  );`;

/**
 * Whether the page may start a worker from this URL.
 * @param {URL} url
 */
function isOwn({ protocol, host }) {
  const here = globalThis.location;
  if (!here || protocol === "blob:" || protocol === "data:") return true;
  if (protocol !== here.protocol || host !== here.host) return false;
  // In a sandboxed iframe the page has an opaque origin, whatever its address is.
  return globalThis.origin !== "null" || !/^https?:$/.test(protocol);
}

/** @type {{ createScriptURL: (address: string) => unknown } | undefined} */
let policy;
/** Whether the page forbids the policy: its name is not listed, or another entry of this package has created it. */
let isForbidden = false;

/**
 * The address as a TrustedScriptURL, for pages with `require-trusted-types-for 'script'`.
 * @param {string} address of this package's own worker
 */
function trusted(address) {
  const types = /** @type {any} */ (globalThis).trustedTypes;
  if (!types) return address;
  try {
    policy ??= types.createPolicy("micro-yolo", { createScriptURL: (/** @type {string} */ one) => one });
  } catch {
    isForbidden = true;
    return address; // The page may have a default policy.
  }
  return policy?.createScriptURL(address) ?? address;
}

/**
 * Why a worker's script did not start, as far as its address shows.
 * @param {string} address
 * @returns {Promise<string>}
 */
export async function whyNotStarted(address) {
  const types = isForbidden
    ? "the policy for Trusted Types has no place for it (`trusted-types micro-yolo`, with 'allow-duplicates' where a page has " +
      "two entries of this package), or "
    : "";
  const general =
    `${types}a module that it imports cannot be loaded, a content security policy forbids it (worker-src), or the page has a Cross-Origin-Embedder-Policy and the script ` +
    "was sent without one";
  if (!/^https?:/.test(address)) return general;
  /** @type {Response | undefined} */
  let response;
  const waiting = new AbortController();
  const timer = setTimeout(() => waiting.abort(), 3000);
  try {
    response = await fetch(address, { signal: waiting.signal });
    waiting.abort(); // Its body is not needed.
  } catch {
    return `${shown(address)} could not be fetched`;
  } finally {
    clearTimeout(timer);
  }
  const missing = "; the bundler has to put it there, or import `micro-yolo/inline`, which needs no file";
  if (!response.ok) return `${shown(address)} answered ${response.status}${missing}`;
  if (/^text\/html/i.test(response.headers.get("content-type") ?? "")) {
    return `${shown(address)} was answered with a web page${missing}`;
  }
  if (globalThis.crossOriginIsolated && !response.headers.get("cross-origin-embedder-policy")) {
    return `${shown(address)} was sent without the header Cross-Origin-Embedder-Policy, which a cross-origin isolated page demands of its workers`;
  }
  return general;
}
