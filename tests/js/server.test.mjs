// The server of tests and benches.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { serve } from "../e2e/lib/server.mjs";

let folder, server;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "micro-yolo-server-"));
  await mkdir(join(folder, "site/sub"), { recursive: true });
  await mkdir(join(folder, "other"));
  const files = {
    "site/index.html": "<title>front</title>",
    "site/sub/page.mjs": "export {};",
    "site/module.wasm": "\0asm",
    "site/film.webm": "0123456789",
    "site/a b.json": "{}",
    "other/model.onnx": "model",
    "secret.txt": "secret",
  };
  for (const [path, text] of Object.entries(files)) await writeFile(join(folder, path), text);
  server = await serve({
    mounts: { "/": join(folder, "site"), "/other/": join(folder, "other") },
    headers: { "cross-origin-opener-policy": "same-origin" },
  });
});

after(async () => {
  await server.close();
  await rm(folder, { recursive: true });
});

test("files come with their types, of the mount with the longest prefix", async () => {
  const cases = {
    "": "text/html;charset=utf-8",
    "?x=1": "text/html;charset=utf-8",
    "index.html": "text/html;charset=utf-8",
    "sub/page.mjs": "text/javascript",
    "module.wasm": "application/wasm",
    "film.webm": "video/webm",
    "a%20b.json": "application/json",
    "other/model.onnx": "application/octet-stream",
  };
  for (const [path, type] of Object.entries(cases)) {
    const response = await fetch(server.url + path);
    assert.equal(response.status, 200, path);
    assert.equal(response.headers.get("content-type"), type, path);
    assert.equal(response.headers.get("cross-origin-opener-policy"), "same-origin", path);
    assert.equal(Number(response.headers.get("content-length")), (await response.arrayBuffer()).byteLength, path);
  }
});

test("a range is a part of a file", async () => {
  const response = await fetch(`${server.url}film.webm`, { headers: { range: "bytes=2-4" } });
  assert.equal(response.status, 206);
  assert.equal(response.headers.get("content-range"), "bytes 2-4/10");
  assert.equal(await response.text(), "234");
});

test("what is not there or outside is not here, with the headers", async () => {
  for (const path of ["missing.js", "other/missing.onnx", "sub/", "..%2fsecret.txt", "%2e%2e/secret.txt", "other/..%2fsecret.txt", "%"]) {
    const response = await fetch(server.url + path);
    assert.equal(response.status, 404, path);
    assert.equal(response.headers.get("cross-origin-opener-policy"), "same-origin", path);
  }
});

test("a file that changes is served as it is now; a route comes first", async () => {
  const path = join(folder, "site/changing.json");
  for (const text of ["1", "23"]) {
    await writeFile(path, text);
    assert.equal(await (await fetch(`${server.url}changing.json`)).text(), text);
  }
  server.route("/changing.json", (_request, response) => response.writeHead(503).end());
  assert.equal((await fetch(`${server.url}changing.json`)).status, 503);
  server.unroute("/changing.json");
  assert.equal((await fetch(`${server.url}changing.json`)).status, 200);
  assert.deepEqual(server.requests.slice(-2), ["/changing.json", "/changing.json"]);
});
