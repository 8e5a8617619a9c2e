// Makes a built site usable without a network. Files are stored under the hash of their content. So a new version
// fetches only changed files, and a half-finished deployment is never mixed with the previous version.
"use strict";

/**
 * Path below this folder → the first 32 hexadecimal digits of its SHA-256. `cargo xtask build --site` fills this in.
 */
const FILES = {};

const CACHE = "micro-yolo";
const SCOPE = new URL("./", self.location.href).href;
/** Other sites on this origin use the same cache storage. */
const KEPT = `${SCOPE}content/`;
const keyOf = (path) => KEPT + FILES[path];

/** Files that the page always needs. The engine and the model in use are added by a message. */
const CORE = /\.(html|css|js|json|webmanifest|svg|png)$/;
/** Files that the page never requests: types for editors, and pictures that only other sites show. */
const UNUSED = /\.(ts|map|txt)$|^preview\.jpg$|^service-worker\.js$/;

const isCore = (path) => CORE.test(path) && !path.startsWith("docs/") && !UNUSED.test(path);

/** @param {string} href @returns {string | undefined} the path of a file of the site */
function pathOf(href) {
  if (!href.startsWith(SCOPE)) return undefined;
  let path = href.slice(SCOPE.length).replace(/[?#].*$/, "");
  try {
    path = decodeURIComponent(path);
  } catch {
    return undefined;
  }
  if (path === "" || path.endsWith("/")) path += "index.html";
  return Object.hasOwn(FILES, path) ? path : undefined;
}

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest.subarray(0, 16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A copy without transport details: compression and redirects. */
function stored(bytes, headers) {
  const kept = new Headers(headers);
  kept.delete("content-encoding");
  kept.set("content-length", String(bytes.byteLength));
  return new Response(bytes, { headers: kept });
}

/** Fetches a file unless it is stored. */
async function keep(path) {
  const cache = await caches.open(CACHE);
  if (await cache.match(keyOf(path))) return;
  // Hosts redirect "index.html" to the folder, and a redirected response is not valid for a navigation.
  const url = new URL(path.replace(/(^|\/)index\.html$/, "$1") || "./", SCOPE);
  const response = await fetch(url, { cache: "no-cache" });
  if (!response.ok) throw new Error(`${path} answered ${response.status}`);
  const bytes = await response.arrayBuffer();
  if ((await sha256(bytes)) !== FILES[path]) throw new Error(`${path} is not of this version`);
  await cache.put(keyOf(path), stored(bytes, response.headers));
}

/** A few at a time, because the page's own requests have priority. */
async function keepAll(paths) {
  const rest = [...paths];
  const work = async () => {
    for (let path = rest.shift(); path; path = rest.shift()) await keep(path);
  };
  await Promise.all([work(), work(), work()]);
}

/** Deletes what no file of this version contains. */
async function tidy() {
  const cache = await caches.open(CACHE);
  const keys = new Set(Object.keys(FILES).map(keyOf));
  for (const request of await cache.keys()) {
    if (request.url.startsWith(KEPT) && !keys.has(request.url)) await cache.delete(request);
  }
}

/** The engines for this browser: the one in use, and for a plain one also the full one of its kind. */
function enginesFor(used) {
  const engines = used.filter((path) => path.endsWith(".wasm"));
  const full = engines.map((path) => path.replace("_threads", "_relaxed").replace(/micro_yolo(?!_full)/, "micro_yolo_full"));
  return new Set([...engines, ...full]);
}

async function keepMore({ used, all }) {
  const here = used.map(pathOf).filter((path) => path !== undefined && !UNUSED.test(path));
  const engines = enginesFor(here);
  const more = all ? Object.keys(FILES).filter((path) => !UNUSED.test(path) && !path.endsWith(".wasm")) : [];
  await keepAll(new Set([...here, ...more, ...(all ? engines : [])].filter((path) => Object.hasOwn(FILES, path))));
}

/** The requested bytes of a stored file: videos are read in parts. */
async function part(response, range) {
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(range) ?? [];
  if (from === undefined) return response;
  const bytes = await response.arrayBuffer();
  const [start, end] = [Number(from), Math.min(to ? Number(to) : Infinity, bytes.byteLength - 1)];
  if (start > end) return new Response(null, { status: 416, headers: { "content-range": `bytes */${bytes.byteLength}` } });
  const headers = new Headers(response.headers);
  headers.set("content-range", `bytes ${start}-${end}/${bytes.byteLength}`);
  headers.set("content-length", String(end - start + 1));
  return new Response(bytes.slice(start, end + 1), { status: 206, headers });
}

async function answer(request, path) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(keyOf(path));
  if (!kept) return fetch(request);
  const range = request.headers.get("range");
  return range ? part(kept, range) : kept;
}

self.addEventListener("install", (event) => {
  event.waitUntil(keepAll(Object.keys(FILES).filter(isCore)));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(tidy().then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const path = event.request.method === "GET" ? pathOf(event.request.url) : undefined;
  if (path) event.respondWith(answer(event.request, path));
});

self.addEventListener("message", (event) => {
  const { call } = event.data ?? {};
  if (call === "take-over") event.waitUntil(self.skipWaiting());
  if (call !== "keep") return;
  const { used, all } = event.data;
  const tell = (done) => event.ports[0]?.postMessage({ done });
  event.waitUntil(keepMore({ used, all }).then(() => tell(true), () => tell(false)));
});
