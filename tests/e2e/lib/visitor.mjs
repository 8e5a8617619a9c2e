// A visitor of the page in Chromium: arriving, and what is seen.
import assert from "node:assert/strict";
import { join } from "node:path";
import { ROOT } from "./server.mjs";

/** Screenshots for people to look at. */
export const SHOTS = join(ROOT, "target/e2e");
export const CAT = join(ROOT, "data/samples/cat.jpg");

/**
 * A fresh visitor of the page at `url`. Fails the test on any error in the console that is not expected.
 * @param {import("playwright-core").Browser} browser
 * @param {string} url
 */
export async function visitPage(browser, url, t, { expectErrors = false, path = "", ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 860 }, ...options });
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  t.after(async () => {
    await context.close();
    if (!expectErrors) assert.deepEqual(errors, []);
  });
  await page.goto(url + path);
  return page;
}

export const labels = (page, list = "#list") => page.locator(`${list} .label`).allTextContents();
export const sees = (page, label, list = "#list") =>
  page.locator(`${list} .label`, { hasText: new RegExp(`^${label}( #\\d+)?$`) }).first().waitFor({ timeout: 60_000 });
export const seesCat = (page) => sees(page, "cat");
/** Once the picture of this name is shown and looked at. */
export const looked = (page, name) =>
  page.waitForFunction(
    (name) => document.querySelector("#picture").alt === name && document.querySelector("#time").textContent !== "–",
    name,
    { timeout: 60_000 },
  );
export const problem = async (page) => {
  await page.locator("#problem").waitFor({ timeout: 60_000 });
  return page.locator("#problem-text").textContent();
};
/** The page with the cat in it. */
export const CAT_PAGE = { path: "#sample=cat" };

/** How many pixels of the overlay are painted. */
export const painted = (page) =>
  page.evaluate(() => {
    const canvas = document.querySelector("#boxes");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.filter((value, index) => index % 4 === 3 && value > 0).length;
  });
