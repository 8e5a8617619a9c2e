// The browsers of tests, benches and scripts, driven by Puppeteer: Chromium by its DevTools protocol, Firefox by WebDriver
// BiDi. Both are those of the system.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import puppeteer from "puppeteer-core";

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

/** Without a screen it says that there is no mouse, and pages are laid out for thumbs. */
const MOUSE = "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4";

/** CSS pixels of a new page. */
const defaultViewport = { width: 1280, height: 720 };

/**
 * @param {string[]} [args]
 * @param {import("puppeteer-core").LaunchOptions} [options]
 */
export function launchChromium(args = [], options = {}) {
  return puppeteer.launch({ executablePath: chromiumPath(), args: [...SANDBOX, MOUSE, ...args], defaultViewport, ...options });
}

/**
 * @param {Record<string, unknown>} [preferences]
 * @param {import("puppeteer-core").LaunchOptions} [options]
 */
export function launchFirefox(preferences = {}, options = {}) {
  return puppeteer.launch({
    browser: "firefox",
    executablePath: firefoxPath(),
    extraPrefsFirefox: preferences,
    defaultViewport,
    ...options,
  });
}

/**
 * Chromium 103 of July 2022, the oldest that is on npm; only on Linux, only without windows.
 * @param {string[]} [args]
 */
export async function launchOldChromium(args = []) {
  const packed = join(createRequire(import.meta.url).resolve("old-chromium/package.json"), "../bin/chromium.br");
  const folder = await mkdtemp(join(tmpdir(), "old-chromium-"));
  const executablePath = join(folder, "chromium");
  await writeFile(executablePath, brotliDecompressSync(await readFile(packed)), { mode: 0o755 });
  const weak = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-zygote"];
  const browser = await launchChromium([...weak, ...args], { executablePath, headless: "shell" });
  return { browser, close: () => browser.close().finally(() => rm(folder, { recursive: true, force: true })) };
}

/**
 * Chromium with an extension.
 * @param {string} folder of the extension
 * @returns {Promise<{ browser: import("puppeteer-core").Browser, id: string }>} `id`: the extension's
 */
export async function launchWithExtension(folder) {
  // Extensions are installed through a pipe only.
  const browser = await launchChromium([], { enableExtensions: true, pipe: true });
  return { browser, id: await browser.installExtension(folder) };
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
