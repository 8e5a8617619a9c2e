// Serves folders to a browser, for tests and benches, and misbehaves on request: the network of the tests.
import { createServer } from "node:http";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import sirv from "sirv";

export const ROOT = fileURLToPath(new URL("../../..", import.meta.url));

/** Where cargo builds, and xtask writes. */
export const TARGET = resolve(ROOT, process.env.CARGO_TARGET_DIR ?? "target");

/** The page as `cargo xtask serve` lays it out. */
export const SITE = { "/pkg/": "pkg", "/samples/": "data/samples", "/models/": "models", "/docs/": "docs", "/fixtures/": "tests/e2e/fixtures", "/": "www" };

/** `Promise.withResolvers`, which Node 20 lacks. */
function withResolvers() {
  let resolve;
  const promise = new Promise((done) => (resolve = done));
  return { promise, resolve };
}

/**
 * @param {object} options
 * @param {Record<string, string>} [options.mounts] URL prefix → folder, relative to the repository or absolute
 * @param {Record<string, string>} [options.headers] sent with everything
 */
export async function serve({ mounts = SITE, headers = {} } = {}) {
  /** @type {Map<string, (request, response) => void | Promise<void>>} */
  const routes = new Map();
  // Browsers ask for it when a document names no icon, and report a 404 as an error.
  routes.set("/favicon.ico", (_, response) => response.writeHead(204).end());
  const requests = [];
  const setHeaders = (response, path) => {
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    // Types that no list has.
    if (path.endsWith(".onnx")) response.setHeader("content-type", "application/octet-stream");
  };
  const folders = Object.entries(mounts)
    // The longest prefix first.
    .sort(([a], [b]) => b.length - a.length)
    // `dev`: as the files are, not as they were.
    .map(([prefix, folder]) => ({ prefix, files: sirv(resolve(ROOT, folder), { dev: true, setHeaders }) }));
  const server = createServer(async (request, response) => {
    const missing = () => response.writeHead(404, headers).end("not here");
    try {
      const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
      requests.push(path);
      const route = routes.get(path);
      if (route) return await route(request, response);
      const mount = folders.find(({ prefix }) => path.startsWith(prefix));
      if (!mount) return missing();
      request.url = request.url.slice(mount.prefix.length - 1);
      mount.files(request, response, missing);
    } catch {
      missing();
    }
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", () => done(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    url: `http://127.0.0.1:${port}/`,
    /** Paths asked for, in order. */
    requests,
    /** Answers `path` by a function instead of a file. */
    route: (path, answer) => routes.set(path, answer),
    unroute: (path) => routes.delete(path),
    /**
     * Answers `path` only once it is released: then with its file, which stays free.
     * @returns {{ release: () => void, dropped: Promise<void> }} the latter once somebody has asked and gone away
     */
    hold(path) {
      const { promise: released, resolve: release } = withResolvers();
      const { promise: dropped, resolve: drop } = withResolvers();
      routes.set(path, async (request, response) => {
        response.on("close", () => !response.writableFinished && drop());
        await released;
        const mount = folders.find(({ prefix }) => path.startsWith(prefix));
        request.url = path.slice(mount.prefix.length - 1);
        mount.files(request, response, () => response.writeHead(404, headers).end("not here"));
      });
      return { release, dropped };
    },
    async close() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}
