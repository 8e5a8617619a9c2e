// When a video shows a new frame. Frames are never queued: who asks late gets the newest.

/**
 * @typedef {object} FrameClock
 * @property {(seen: number) => Promise<number | undefined>} next the number of the newest frame as soon as it is above
 *   `seen` and the page is visible; undefined at the end of the video, or when stopped
 * @property {() => void} stop
 */

/**
 * @param {HTMLVideoElement} video
 * @returns {FrameClock}
 */
export function frameClock(video) {
  let shown = 0;
  let ended = false;
  let stopped = false;
  let wake = () => {};
  /** @type {() => void} */
  let cancel;

  const newFrame = () => {
    shown += 1;
    wake();
  };
  if (typeof video.requestVideoFrameCallback === "function") {
    let handle = 0;
    const tick = () => {
      newFrame();
      handle = video.requestVideoFrameCallback(tick);
    };
    handle = video.requestVideoFrameCallback(tick);
    cancel = () => video.cancelVideoFrameCallback(handle);
  } else {
    let handle = 0;
    let last = -1;
    const tick = () => {
      if (video.currentTime !== last) {
        last = video.currentTime;
        newFrame();
      }
      handle = requestAnimationFrame(tick);
    };
    handle = requestAnimationFrame(tick);
    cancel = () => cancelAnimationFrame(handle);
  }

  const events = new AbortController();
  const { signal } = events;
  const changed = () => wake();
  // A callback set on a paused video does not fire for the frame it already shows.
  if (video.readyState >= 2) shown = 1;
  for (const event of ["loadeddata", "seeked"]) video.addEventListener(event, newFrame, { signal });
  followStream(video, changed, signal);
  video.addEventListener("error", changed, { signal });
  video.addEventListener(
    "ended",
    () => {
      ended = true;
      wake();
    },
    { signal },
  );
  video.addEventListener("playing", () => (ended = false), { signal });
  document.addEventListener("visibilitychange", changed, { signal });

  return {
    async next(seen) {
      for (;;) {
        if (stopped) return undefined;
        if (video.error) return shown; // detect() will say what is wrong with it.
        if (document.visibilityState === "visible" && video.readyState >= 2 && shown > seen) return shown;
        if (ended || isOver(video)) return undefined;
        await new Promise((resolve) => (wake = () => resolve(undefined)));
      }
    },
    stop() {
      stopped = true;
      events.abort();
      cancel();
      wake();
    },
  };
}

/**
 * Calls `changed` when the camera behind the video stops: not every browser ends the video then.
 * @param {HTMLVideoElement} video
 * @param {() => void} changed
 * @param {AbortSignal} signal
 */
function followStream(video, changed, signal) {
  const follow = () => {
    const stream = video.srcObject;
    if (!(stream instanceof MediaStream)) return;
    stream.addEventListener("inactive", changed, { signal });
    for (const track of stream.getVideoTracks()) track.addEventListener("ended", changed, { signal });
  };
  follow();
  video.addEventListener("loadedmetadata", follow, { signal });
}

/** @param {HTMLVideoElement} video */
function isOver(video) {
  return video.srcObject instanceof MediaStream && !video.srcObject.active;
}
