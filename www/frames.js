// Single frames of a video.

/**
 * Waits until the video shows another frame, or until the time is over: a paused or hidden video shows none.
 * @param {HTMLVideoElement} video
 * @param {AbortSignal} signal
 * @param {number} [patience] milliseconds
 */
export function nextFrame(video, signal, patience = 1000) {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve(undefined);
    let handle;
    const done = () => {
      clearTimeout(timer);
      if (handle !== undefined) video.cancelVideoFrameCallback(handle);
      signal.removeEventListener("abort", done);
      resolve(undefined);
    };
    const timer = setTimeout(done, "requestVideoFrameCallback" in video ? patience : 30);
    signal.addEventListener("abort", done, { once: true });
    if ("requestVideoFrameCallback" in video) handle = video.requestVideoFrameCallback(done);
  });
}

/**
 * The current frame of a video as a permanent copy.
 * @param {HTMLVideoElement} video
 * @returns {Promise<ImageBitmap | undefined>} `undefined` if it has none yet
 */
export async function grab(video) {
  try {
    const frame = await createImageBitmap(video);
    return frame.width ? frame : undefined; // Firefox (seen in 153) makes an empty one of a broken file.
  } catch {
    return undefined;
  }
}
