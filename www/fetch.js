// In a frame of its own: fetches one address for each message, without cookies, and answers on the message's port.
"use strict";

addEventListener("message", async ({ source, data, ports: [port] }) => {
  if (source !== parent || typeof data !== "string" || !port) return;
  try {
    const response = await fetch(data, { credentials: "omit", referrerPolicy: "no-referrer" });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const type = response.headers.get("content-type") ?? "";
    const bytes = await response.arrayBuffer();
    port.postMessage({ bytes, type }, [bytes]);
  } catch (error) {
    port.postMessage({ error: String(error) });
  }
});
parent.postMessage("fetch-ready", "*");
