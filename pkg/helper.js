// A helper: sleeps on the round's counter, and computes with the detector's engine while it is odd.
import init, { help } from "./wasm/micro_yolo_threads.js";

/** Bytes of stack; kernels take a tenth. */
const STACK = 1 << 18;

addEventListener("message", async ({ data: { module, memory, round, member } }) => {
  await init({ module_or_path: module, memory, thread_stack_size: STACK });
  postMessage("ready");
  const words = new Int32Array(memory.buffer);
  // Never back to the browser: the worker ends with its detector, from outside.
  for (;;) {
    const now = Atomics.load(words, round / 4);
    if (now % 2) help(member);
    else Atomics.wait(words, round / 4, now);
  }
});
