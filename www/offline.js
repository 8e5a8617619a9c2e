// Makes the page usable without a network: registers the service worker of a built site.
import { OFFLINE } from "./build.js";

/** @typedef {{ state: HTMLElement, update: HTMLElement, updateNow: HTMLElement }} Elements */

/** @type {Promise<ServiceWorkerContainer | undefined> | undefined} */
let registered;

/**
 * Keeps the files that are in use, and in the background the rest. Called for each model that has been loaded.
 * @param {Elements} elements
 */
export async function keepOffline(elements) {
  try {
    registered ??= register(elements);
    const workers = await registered;
    if (!workers) return;
    const { active } = await workers.ready;
    // Less if the visitor saves data.
    const { saveData, type } = /** @type {any} */ (navigator).connection ?? {};
    const all = !(saveData || type === "cellular");
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = ({ data }) => {
      if (data.done) elements.state.textContent = all ? "Works offline, with all models." : "Works offline with the model in use.";
    };
    active?.postMessage({ call: "keep", used: usedHere(), all }, [port2]);
  } catch (error) {
    console.warn("not kept for offline use:", error);
  }
}

/**
 * @param {Elements} elements
 * @returns {Promise<ServiceWorkerContainer | undefined>} undefined where nothing is kept
 */
async function register({ update, updateNow }) {
  const workers = navigator.serviceWorker; // Absent without https and in private windows, and throws in a sandboxed frame.
  if (!workers) return undefined;
  if (!OFFLINE) {
    // A built site may have been at this address before; its service worker would hide all edits.
    const scope = new URL("./", location.href).href;
    for (const one of await workers.getRegistrations()) if (one.scope === scope) await one.unregister();
    return undefined;
  }
  const registration = await workers.register("./service-worker.js", { updateViaCache: "none" });
  const offer = () => {
    if (registration.waiting && workers.controller) update.hidden = false;
  };
  offer();
  registration.addEventListener("updatefound", () => {
    registration.installing?.addEventListener("statechange", offer);
  });
  updateNow.addEventListener("click", () => {
    const { waiting } = registration;
    if (!waiting) return location.reload(); // Another tab has activated it.
    workers.addEventListener("controllerchange", () => location.reload(), { once: true });
    waiting.postMessage({ call: "take-over" });
  });
  // Files that this tab has not loaded yet would be of the version that another tab installed. At the first visit
  // there was none before.
  let controlled = Boolean(workers.controller);
  workers.addEventListener("controllerchange", () => {
    if (controlled) update.hidden = false;
    controlled = true;
  });
  return workers;
}

/** The files that this page has loaded so far, including the engine for this browser. */
function usedHere() {
  return performance.getEntriesByType("resource").map(({ name }) => name);
}
