// The browsers of the tests: Chromium by Playwright, Firefox by WebDriver BiDi (Puppeteer), each behind the few
// methods that the tests need.
import { spawn } from "node:child_process";
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

/**
 * @param {string[]} [args]
 * @param {object} [options] Playwright's
 */
export async function launchChromium(args = [], options = {}) {
  const { chromium } = await import("playwright-core");
  return chromium.launch({ executablePath: chromiumPath(), args: [...SANDBOX, ...args], ...options });
}

/**
 * A screen for browsers with windows: the one that is there, else a virtual one of Xvfb; undefined where neither is.
 * @returns {Promise<{ env: NodeJS.ProcessEnv, close: () => void } | undefined>}
 */
export async function openDisplay() {
  const { env, platform } = process;
  if (env.DISPLAY || env.WAYLAND_DISPLAY || platform === "darwin" || platform === "win32") return { env, close() {} };
  const server = spawn("Xvfb", ["-displayfd", "3", "-screen", "0", "1280x1024x24", "-nolisten", "tcp"], {
    stdio: ["ignore", "ignore", "ignore", "pipe"],
  });
  const number = await new Promise((resolve) => {
    server.on("error", () => resolve(undefined)); // Not installed.
    server.on("exit", () => resolve(undefined));
    server.stdio[3].on("data", (text) => resolve(String(text).trim()));
  });
  return number && { env: { ...env, DISPLAY: `:${number}` }, close: () => server.kill() };
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
