import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { duration, explain, explainCamera, explainOwnModel, megabytes, summary } from "../../www/words.js";

const objects = (...labels) => labels.map((label) => ({ label }));

test("a summary is a sentence", () => {
  assert.equal(summary(objects("cat")), "A cat.");
  assert.equal(summary(objects("cat", "cat")), "2 cats.");
  assert.equal(summary(objects("person", "dog", "person")), "2 people and a dog.");
  assert.equal(summary(objects("apple", "umbrella", "oven")), "An apple, an umbrella and an oven.");
  assert.equal(summary(objects("scissors", "knife", "knife")), "A pair of scissors and 2 knives.");
  assert.equal(summary(objects("tv", "dog")), "A TV and a dog.");
  assert.equal(summary(objects("bus", "bus", "bench", "bench", "toothbrush", "toothbrush")), "2 buses, 2 benches and 2 toothbrushes.");
  // Classes of a visitor's model.
  assert.equal(summary(objects("box", "box", "berry", "berry", "key", "key")), "2 boxes, 2 berries and 2 keys.");
  assert.equal(summary(objects("Engine", "constructor")), "An Engine and a constructor.");
});

test("where nothing is sure, the guesses are named", () => {
  const unsure = [["zebra", 0.22], ["bed", 0.144], ["dog", 0.1]].map(([label, score]) => ({ label, score }));
  assert.equal(summary([], unsure, 30), "Nothing above 30\u00a0%; unsure: zebra 22\u00a0%, bed 14\u00a0%.");
  assert.equal(summary([], [{ label: "frisbee", score: 0.396 }], 40), "Nothing above 40\u00a0%; unsure: frisbee 39\u00a0%.");
  assert.equal(summary([], [], 45), "Nothing above 45\u00a0%.");
  assert.equal(summary(objects("cat"), unsure, 30), "A cat.");
});

test("a visitor's own model is blamed for what is its doing, with the reason", () => {
  assert.match(explainOwnModel({ code: "invalid-model", message: "12 bytes" }), /no intact ONNX file.*12 bytes/);
  assert.match(explainOwnModel({ code: "unsupported-operator", message: "Foo" }), /operator.*Foo/);
  assert.match(explainOwnModel({ code: "unsupported-model", message: "Add" }), /no YOLO network.*Add/);
  assert.match(explainOwnModel({ code: "unsupported-model", message: "Add" }, true), /input size.*Add/);
  assert.equal(explainOwnModel({ code: "network", message: "x" }), explain({ code: "network", message: "x" }));
});

test("every code of the package has a sentence, or is none a visitor can meet", async () => {
  const types = await readFile(new URL("../../pkg/index.d.ts", import.meta.url), "utf8");
  const codes = [...types.matchAll(/^ {2}\| "([a-z-]+)"/gm)].map(([, code]) => code);
  assert.ok(codes.length >= 15, String(codes));
  // The page's own doing: it disposes of nothing, sets no wrong option, and does not show what it gave up itself.
  const inner = ["aborted", "disposed", "invalid-option", "invalid-source", "inference-failed"];
  for (const code of codes.filter((code) => !inner.includes(code))) {
    const sentence = explain({ code, message: "technical" });
    assert.doesNotMatch(sentence, /technical/, code);
    assert.match(sentence, /^[A-Z].*[.?]$/, code);
  }
  assert.match(explain({ code: "inference-failed", message: "technical" }), /technical/);
  assert.match(explain(undefined), /undefined/);
  assert.match(explain({ code: "invalid-image", file: "IMG_0001.HEIC" }), /HEIC.*JPEG/);
  assert.match(explain({ code: "invalid-image", file: "IMG_0001.jpg", type: "image/heic" }), /HEIC.*JPEG/);
  assert.match(explain({ code: "file-unreadable", file: "IMG_0001.HEIC" }), /moved, changed or deleted/);
  assert.match(explain({ code: "invalid-image", file: "File:Cat.jpg", type: "text/html" }), /is a web page/);
  assert.match(explain({ code: "invalid-image", file: "best.pt" }), /Export that model as ONNX/);
  assert.equal(explain({ code: "invalid-image", file: "notes.txt" }), explain({ code: "invalid-image" }));
});

test("the codes of the crate are documented there, and are codes of the package", async () => {
  const types = await readFile(new URL("../../pkg/index.d.ts", import.meta.url), "utf8");
  const source = await readFile(new URL("../../src/error.rs", import.meta.url), "utf8");
  const codes = [...source.matchAll(/^ +Kind::\w+ => "([a-z-]+)",/gm)].map(([, code]) => code);
  const documented = [...source.matchAll(/^ +\/\/\/ \| `([a-z-]+)` \|/gm)].map(([, code]) => code);
  assert.ok(codes.length >= 12, String(codes));
  assert.deepEqual(documented, codes);
  for (const code of codes) assert.ok(types.includes(`  | "${code}"`), `${code} is not in the types`);
});

test("a camera that is refused is explained by the name of the error", () => {
  assert.match(explainCamera({ name: "NotAllowedError" }), /not allowed/);
  assert.match(explainCamera({ name: "NotFoundError" }), /No camera/);
  assert.match(explainCamera({ name: "NotReadableError" }), /another program/);
  // Some browsers give no message.
  assert.match(explainCamera({ name: "OverconstrainedError", message: "" }), /unplugged/);
  assert.match(explainCamera({ name: "OddError", message: "" }), /OddError/);
  assert.match(explainCamera(new DOMException("https only", "NotSupportedError")), /https only/);
});

test("numbers", () => {
  assert.equal(megabytes({ loaded: 2_340_000, total: 5_100_000 }), "2.3 of 5.1 MB");
  assert.equal(megabytes({ loaded: 2_340_000, total: undefined }), "2.3 MB");
  assert.equal(duration(3.14), "3.1 ms");
  assert.equal(duration(38.4), "38 ms");
});
