import { kindOf } from "./kind.js";

/**
 * What every part of this package throws. `code` is one of the strings listed in `index.d.ts`; the original error,
 * where there is one, is `cause`.
 */
export class MicroYoloError extends Error {
  /** Set explicitly, because minifiers rename the class, and Node prints an error by the name of its class. */
  static name = "MicroYoloError";
  /** A field: an assignment fails in a page that has frozen `Error.prototype`. */
  name = "MicroYoloError";

  /**
   * @param {import("./index.js").ErrorCode} code
   * @param {string} message
   * @param {ErrorOptions} [options]
   */
  constructor(code, message, options) {
    super(message, options);
    this.code = code;
  }
}

/**
 * The error for an aborted signal.
 * @param {AbortSignal} signal
 */
export function aborted(signal) {
  return new MicroYoloError("aborted", "the call was aborted by its signal", { cause: signal.reason });
}

/** The error for a call on a detector that was disposed of. */
export function disposed() {
  return new MicroYoloError("disposed", "this detector was disposed of; load a new one with Detector.load()");
}

/**
 * Settles as `promise` does, or rejects as soon as `signal` is aborted.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<T>}
 */
export function abortable(promise, signal) {
  if (!signal) return promise;
  if (signal.aborted) {
    promise.catch(() => {}); // Nobody waits for it any more: its failure must not surface as unhandled.
    return Promise.reject(aborted(signal));
  }
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(aborted(signal));
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

/**
 * The error for a URL that fetch() refused. The browser does not give the reason, but the scheme may show it.
 * @param {string} url
 * @param {unknown} cause
 * @param {string} [help]
 */
export function notFetched(url, cause, help = "") {
  let why = "offline, another site without CORS";
  if (/^data:/i.test(url)) why = "not intact";
  if (/^blob:/i.test(url)) why = "revoked, of another site, of a file that was changed or removed";
  if (/^http:/i.test(url) && globalThis.location?.protocol === "https:") why = `not sent by https as this page is, ${why}`;
  why += ", or forbidden by a content security policy (connect-src)";
  const [scheme] = /^[a-z][a-z\d+.-]+:/i.exec(url) ?? [""];
  if (scheme && !/^(https?|data|blob):$/i.test(scheme)) why = `from here no address is fetched that begins with ${scheme}`;
  if (/^https?:\/\/[^/?#]*@/i.test(url)) why = "no address is fetched that has a user name or password in it";
  // A Windows drive looks like a scheme. A path in a page that was opened from the disk has no scheme.
  if (/^(file|[a-z]):/i.test(url) || (globalThis.location?.protocol === "file:" && !/^\w+:/.test(url))) {
    why = "files are not fetched from a disk: send them by http, or give what is in them, as a Blob";
  }
  return new MicroYoloError("network", `${shown(url)} could not be fetched: ${why}${help}`, { cause });
}

/**
 * A URL or another given value, shortened for messages: a picture as base64 text is very long.
 * @param {unknown} value
 */
export function shown(value) {
  const text = String(value);
  return text.length <= 200 ? text : `${text.slice(0, 60)}… (${text.length} characters)`;
}

/**
 * Many servers send their page for a missing file.
 * @param {string} url
 * @param {string} wanted
 */
export function pageInstead(url, wanted) {
  return `${shown(url)} was answered with a web page instead of ${wanted}, as some servers do where a file is missing`;
}

/**
 * A value of a wrong type or size, in a form that shows its type: the text "0.5" would look like the expected number.
 * @param {unknown} value
 */
export function given(value) {
  if (typeof value === "string") return `"${shown(value)}"`;
  if (typeof value === "bigint") return `${value}n`;
  return value !== null && /^(object|function)$/.test(typeof value) ? kindOf(value) : String(value);
}
