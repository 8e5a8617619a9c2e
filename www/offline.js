// Keeps the page for use without a network: registers the service worker of a built site.
import { OFFLINE } from "./build.js";

/**
 * @param {{ state: HTMLElement, update: HTMLElement, updateNow: HTMLElement }} elements
 */
export async function keepOffline({ state, update, updateNow }) {
  try {
    const workers = navigator.serviceWorker; // Absent without https and in private windows, and throws in a sandboxed frame.
    if (!workers) return;
    if (!OFFLINE) {
      // A built site may have stood at this address; its worker would hide every edit.
      const scope = new URL("./", location.href).href;
      for (const one of await workers.getRegistrations()) if (one.scope === scope) await one.unregister();
      return;
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
      if (!waiting) return location.reload(); // Another tab took it.
      workers.addEventListener("controllerchange", () => location.reload(), { once: true });
      waiting.postMessage({ call: "take-over" });
    });
    // What this tab has yet to load would be of the version that another tab took. At the first visit there was none before.
    let controlled = Boolean(workers.controller);
    workers.addEventListener("controllerchange", () => {
      if (controlled) update.hidden = false;
      controlled = true;
    });
    const { active } = await workers.ready;
    // The rest in the background, less where the visitor pays for each megabyte.
    const { saveData, type } = /** @type {any} */ (navigator).connection ?? {};
    const all = !(saveData || type === "cellular");
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = ({ data }) => {
      if (data.done) state.textContent = all ? "Works offline, with all models." : "Works offline with the model in use.";
    };
    active?.postMessage({ call: "keep", used: usedHere(), all }, [port2]);
  } catch (error) {
    console.warn("not kept for offline use:", error);
  }
}

/** What this page has loaded so far: the engine that this browser runs is among it. */
function usedHere() {
  return performance.getEntriesByType("resource").map(({ name }) => name);
}
