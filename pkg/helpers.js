// The helpers of one detector: workers that share the memory of its engine and compute in it.
import { openWorker } from "./open-worker.js";

/** @typedef {import("./engine.js").Team & { call: "help", module: WebAssembly.Module, member: number }} Task */

/** Milliseconds that a helper may take to start. The detector works without it. */
const PATIENCE = 10_000;

export class Helpers {
  /** @type {Set<() => void>} */
  #ends = new Set();
  #stopped = false;

  /**
   * Starts `count` helpers. The engine must be idle meanwhile: each helper allocates its stack, and the allocator is
   * made for one thread.
   * @param {number} count
   * @param {WebAssembly.Module} module
   * @param {import("./engine.js").Team} team
   * @param {() => Worker} worker starts one
   * @returns {Promise<number>} how many have started
   */
  async start(count, module, team, worker) {
    let ready = 0;
    // One after the other, for the same reason. The script is fetched once.
    for (let member = 1; member <= count && !this.#stopped; member += 1) {
      if (!(await this.#startOne({ call: "help", module, ...team, member }, worker))) break;
      ready += 1;
    }
    return ready;
  }

  /**
   * @param {Task} task
   * @param {() => Worker} start
   * @returns {Promise<boolean>} whether it has started
   */
  #startOne(task, start) {
    return new Promise((resolve) => {
      let opened;
      try {
        opened = openWorker(start);
      } catch {
        resolve(false);
        return;
      }
      const { worker, release } = opened;
      const end = () => {
        clearTimeout(timer);
        worker.terminate();
        release();
        this.#ends.delete(end);
        resolve(false);
      };
      const timer = setTimeout(end, PATIENCE);
      this.#ends.add(end);
      worker.onerror = (event) => {
        event.preventDefault();
        end();
      };
      worker.onmessage = ({ data: { id } }) => {
        if (id === 0) return; // The script has started, but the helper is not ready yet.
        clearTimeout(timer);
        release();
        resolve(true);
      };
      worker.postMessage(task);
    });
  }

  stop() {
    this.#stopped = true;
    for (const end of this.#ends) end();
  }
}
