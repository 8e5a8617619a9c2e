import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { isIntact } from "../../pkg/intact.js";

const read = async (path) => new Uint8Array(await readFile(new URL(`../../${path}`, import.meta.url)));

const FILES = [
  "data/samples/cat.jpg",
  ...["cmyk.jpg", "progressive.jpg", "palette.png", "sixteen-bit.png", "animated.gif", "animated.webp", "spot.avif"].map(
    (name) => `tests/e2e/fixtures/pictures/${name}`,
  ),
];

test("a file is intact to its last byte, and not where bytes are missing or overwritten", async () => {
  for (const path of FILES) {
    const bytes = await read(path);
    assert.equal(isIntact(bytes), true, path);
    // After the first frame of an animation nothing is missing that is looked at.
    const end = path.endsWith(".gif") ? 850 : bytes.length - 5;
    for (const at of [20, 40, 60, 84, 0.3 * end, 0.7 * end, end].map(Math.floor)) {
      assert.equal(isIntact(bytes.subarray(0, at)), false, `${path}, ${at} bytes`);
    }
    if (!/png|jpg/.test(path)) continue; // The others do not tell.
    for (const value of [0, 255]) assert.equal(isIntact(bytes.slice().fill(value, end / 2)), false, `${path}, then ${value}`);
  }
});

test("what follows after the picture, and where it lies in memory, does not matter", async () => {
  for (const path of FILES.filter((one) => !one.endsWith("avif"))) {
    const bytes = await read(path);
    const larger = new Uint8Array(bytes.length + 20);
    larger.set(bytes, 7);
    assert.equal(isIntact(larger.subarray(7, 7 + bytes.length)), true, path);
    assert.equal(isIntact(larger.subarray(7)), true, path);
    assert.equal(isIntact(larger.subarray(7, bytes.length / 2)), false, path);
  }
});

test("the end of a thumbnail is not that of the picture, and padding precedes markers", () => {
  const segment = [0xff, 0xe1, 0, 8, 0xff, 0xd8, 0xff, 0xd9, 0, 0]; // With a picture in it.
  const scan = [0xff, 0xff, 0xff, 0xda, 0, 2, 1, 2, 3];
  assert.equal(isIntact(Uint8Array.of(0xff, 0xd8, ...segment, ...scan)), false);
  assert.equal(isIntact(Uint8Array.of(0xff, 0xd8, ...segment, ...scan, 0xff, 0xd9)), true);
});

test("a bitmap is as long as it says, and what is not known counts as intact", () => {
  const bitmap = new Uint8Array(70);
  bitmap.set([0x42, 0x4d, 70]);
  assert.equal(isIntact(bitmap), true);
  assert.equal(isIntact(bitmap.subarray(0, 69)), false);
  for (const text of ["", "<svg/>", "BM"]) assert.equal(isIntact(new TextEncoder().encode(text)), text !== "BM", text);
});
