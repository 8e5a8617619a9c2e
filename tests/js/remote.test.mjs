// Addresses that a visitor enters, without a browser: the frame that fetches them is made up.
import assert from "node:assert/strict";
import { test } from "node:test";

test("an address that was given up before the frame was there is not asked", async () => {
  const posted = [];
  const listeners = [];
  const contentWindow = { postMessage: (...given) => posted.push(given) };
  const element = { contentWindow, setAttribute() {}, remove() {} };
  Object.assign(globalThis, {
    location: { origin: "https://page.example" },
    document: { createElement: () => element, body: { append() {} } },
    addEventListener: (_, listener) => listeners.push(listener),
    removeEventListener() {},
  });
  const { fetchAddress } = await import("../../www/remote.js");
  const given = new AbortController();
  const gone = fetchAddress(new URL("https://elsewhere.example/cat.jpg"), given.signal);
  given.abort();
  for (const listener of listeners) listener({ source: contentWindow, data: "fetch-ready" });
  await assert.rejects(Promise.race([gone, new Promise((resolve) => setTimeout(resolve, 200))]), { name: "AbortError" });
  assert.deepEqual(posted, []);
});
