/**
 * The same stream, of which each chunk is shown as it passes. Made by the constructor of the stream itself, because a page
 * may have replaced `ReadableStream` and `TransformStream` by a polyfill, whose streams native functions refuse.
 * @param {ReadableStream<Uint8Array<ArrayBuffer>>} stream
 * @param {(chunk: Uint8Array) => void} see if it throws, the stream is cancelled and fails
 * @param {() => void} [end] called when the stream has ended
 * @returns {ReadableStream<Uint8Array<ArrayBuffer>>}
 */
export function observed(stream, see, end = () => {}) {
  const reader = stream.getReader();
  const Native = /** @type {typeof ReadableStream<Uint8Array<ArrayBuffer>>} */ (stream.constructor);
  return new Native({
    async pull(controller) {
      const { done, value } = await reader.read();
      if (done) {
        end();
        controller.close();
        return;
      }
      try {
        see(value);
      } catch (error) {
        reader.cancel(error).catch(() => {});
        throw error;
      }
      controller.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  });
}

/**
 * All bytes of a stream in one piece. Not with `Response`, for the same reason.
 * @param {ReadableStream<Uint8Array<ArrayBuffer>>} stream
 */
export async function collected(stream) {
  const reader = stream.getReader();
  /** @type {Uint8Array[]} */
  const chunks = [];
  let length = 0;
  for (let next; !(next = await reader.read()).done; ) {
    chunks.push(next.value);
    length += next.value.length;
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}
