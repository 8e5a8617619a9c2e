// Serves folders for a test, and misbehaves on request: the network of the tests.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../../..", import.meta.url));

/** The page as `cargo xtask serve` lays it out. */
export const SITE = { "/pkg/": "pkg", "/samples/": "data/samples", "/models/": "models", "/docs/": "docs", "/fixtures/": "tests/e2e/fixtures", "/": "www" };

const TYPES = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".jpg": "image/jpeg",
  ".js": "text/javascript",
  ".json": "application/json",
  ".md": "text/plain; charset=utf-8",
  ".mjs": "text/javascript",
  ".mp4": "video/mp4",
  ".onnx": "application/octet-stream",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
  ".webm": "video/webm",
  ".webmanifest": "application/manifest+json",
};

/**
 * @param {object} options
 * @param {Record<string, string>} [options.mounts] URL prefix → folder, relative to the repository or absolute
 * @param {Record<string, string>} [options.headers] sent with everything
 */
export async function serve({ mounts = SITE, headers = {} } = {}) {
  /** @type {Map<string, (request, response) => void | Promise<void>>} */
  const routes = new Map();
  const requests = [];
  const prefixes = Object.keys(mounts).sort((a, b) => b.length - a.length);
  const server = createServer(async (request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    requests.push(path);
    try {
      const route = routes.get(path);
      if (route) return await route(request, response);
      const prefix = prefixes.find((one) => path.startsWith(one));
      const relative = normalize(path.slice(prefix?.length ?? 0)) + (path.endsWith("/") ? "index.html" : "");
      if (prefix === undefined || relative.startsWith("..")) throw new Error("outside");
      const folder = mounts[prefix].startsWith("/") ? mounts[prefix] : join(ROOT, mounts[prefix]);
      const body = await readFile(join(folder, relative.replace(/^\.index\.html$/, "index.html")));
      const type = TYPES[extname(relative)] ?? "application/octet-stream";
      // Part of a film: without that no browser seeks in it.
      const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
      const part = from === undefined ? body : body.subarray(Number(from), to ? Number(to) + 1 : undefined);
      const fields = { "content-type": type, "content-length": part.length, "accept-ranges": "bytes", ...headers };
      const last = Number(from) + part.length - 1;
      if (from !== undefined) fields["content-range"] = `bytes ${from}-${last}/${body.length}`;
      response.writeHead(from === undefined ? 200 : 206, fields).end(part);
    } catch {
      response.writeHead(404, headers).end("not here");
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    url: `http://127.0.0.1:${port}/`,
    /** Paths asked for, in order. */
    requests,
    /** Answers `path` by a function instead of a file. */
    route: (path, answer) => routes.set(path, answer),
    unroute: (path) => routes.delete(path),
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
