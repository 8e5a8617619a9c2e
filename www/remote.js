// Fetches files from URLs that a visitor enters. The page's content security policy allows only its own folder, so that
// no picture can leave it. A separate sandboxed frame fetches from other sites. It gets only the URL.

/** The frame is a small file of this site. If it has not loaded in this time, it will not load. */
const FRAME_MS = 15_000;

/** @type {Promise<Window> | undefined} */
let frame;

/** @returns {Promise<Window>} */
function openFrame() {
  frame ??= new Promise((resolve, reject) => {
    const element = document.createElement("iframe");
    element.setAttribute("sandbox", "allow-scripts"); // No access to this page, its storage or its origin.
    element.hidden = true;
    element.title = "Fetches addresses";
    const ready = ({ source, data }) => {
      if (source !== element.contentWindow || data !== "fetch-ready") return;
      settle();
      resolve(/** @type {Window} */ (element.contentWindow));
    };
    const timer = setTimeout(() => {
      settle();
      element.remove();
      frame = undefined; // The next URL tries again.
      reject(unreachable("the frame that fetches addresses did not load"));
    }, FRAME_MS);
    const settle = () => {
      clearTimeout(timer);
      removeEventListener("message", ready);
    };
    addEventListener("message", ready);
    element.src = "./fetch.html";
    document.body.append(element);
  });
  return frame;
}

/**
 * The URL in a text that was typed, pasted or dropped.
 * @param {string} text
 * @returns {URL | undefined}
 */
export function addressIn(text) {
  const [first = ""] = text.trim().split(/\s/);
  if (!/^https?:\/\/./i.test(first)) return undefined;
  try {
    return new URL(first);
  } catch {
    return undefined;
  }
}

/**
 * @param {URL} url
 * @param {AbortSignal} signal
 * @returns {Promise<File>} named as the last part of the path
 */
export async function fetchAddress(url, signal) {
  const { bytes, type } = await (url.origin === location.origin ? fetchHere(url, signal) : fetchThere(url, signal));
  let name = url.pathname.split("/").filter(Boolean).at(-1) ?? url.hostname;
  try {
    name = decodeURIComponent(name);
  } catch {
    // A stray percent sign: the name as it is.
  }
  return new File([bytes], name, { type: type.split(";")[0].trim() });
}

async function fetchHere(url, signal) {
  try {
    const response = await fetch(url, { signal });
    if (!response.ok) throw new Error(`status ${response.status}`);
    return { bytes: await response.arrayBuffer(), type: response.headers.get("content-type") ?? "" };
  } catch (cause) {
    throw signal.aborted ? signal.reason : unreachable(cause);
  }
}

async function fetchThere(url, signal) {
  const window = await openFrame();
  if (signal.aborted) throw signal.reason; // An abandoned URL is not sent.
  const { port1, port2 } = new MessageChannel();
  try {
    return await new Promise((resolve, reject) => {
      const stop = () => {
        port1.postMessage("stop");
        reject(signal.reason);
      };
      signal.addEventListener("abort", stop, { once: true });
      port1.onmessage = ({ data }) => (data.error ? reject(unreachable(data.error)) : resolve(data));
      window.postMessage(url.href, "*", [port2]);
    });
  } finally {
    port1.close(); // Takes effect after the posted message.
  }
}

function unreachable(cause) {
  const code = /more than \d+ bytes/.test(cause) ? "address-too-large" : "address-unreachable";
  return Object.assign(new Error("the address could not be read", { cause }), { code });
}
