// The browsers of the tests: Chromium by Playwright, Firefox by WebDriver BiDi (Puppeteer), each behind the few
// methods that the tests need.
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

/**
 * @param {string} variable
 * @param {string[]} names
 */
function find(variable, names) {
  if (process.env[variable]) return process.env[variable];
  const folders = (process.env.PATH ?? "").split(delimiter).concat("/Applications");
  for (const name of names) {
    for (const folder of folders) if (existsSync(join(folder, name))) return join(folder, name);
  }
  throw new Error(`no ${names[0]}: install it, or say where it is in the variable ${variable}`);
}

export const chromiumPath = () =>
  find("CHROMIUM", ["chromium", "chromium-browser", "google-chrome", "Google Chrome.app/Contents/MacOS/Google Chrome"]);

export const firefoxPath = () => find("FIREFOX", ["firefox", "firefox-esr", "Firefox.app/Contents/MacOS/firefox"]);

/** Chromium refuses to run as root with its sandbox, as containers do. */
const SANDBOX = process.getuid?.() === 0 ? ["--no-sandbox"] : [];

/** @param {string[]} [args] */
export async function launchChromium(args = []) {
  const { chromium } = await import("playwright-core");
  return chromium.launch({ executablePath: chromiumPath(), args: [...SANDBOX, ...args] });
}

/**
 * Chromium with an extension, for which it wants a profile.
 * @param {string} folder of the extension
 */
export async function launchWithExtension(folder) {
  const { chromium } = await import("playwright-core");
  return chromium.launchPersistentContext("", {
    executablePath: chromiumPath(),
    ignoreDefaultArgs: ["--disable-extensions"],
    args: [
      ...SANDBOX,
      `--disable-extensions-except=${folder}`,
      `--load-extension=${folder}`,
      "--disable-features=DisableLoadExtensionCommandLineSwitch",
    ],
  });
}

/** @param {Record<string, unknown>} [preferences] */
export async function launchFirefox(preferences = {}) {
  const { default: puppeteer } = await import("puppeteer-core");
  return puppeteer.launch({
    browser: "firefox",
    executablePath: firefoxPath(),
    headless: true,
    extraPrefsFirefox: preferences,
  });
}
