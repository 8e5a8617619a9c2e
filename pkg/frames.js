// When a video shows a new frame. Frames are never queued: who asks late gets the newest.

/**
 * @typedef {object} FrameClock
 * @property {(seen: number) => Promise<number | undefined>} next the number of the newest frame as soon as it is above
 *   `seen` and the page is visible; undefined at the end of the video, when its source was taken away, or when stopped
 * @property {(timestamp?: number) => number} took tells that what the video shows was taken, and answers with its number.
 *   `timestamp` is that of the frame, in microseconds, where the browser knows it
 * @property {() => void} stop
 */

/** So often a video that shows nothing new is looked over, whatever events there were. In milliseconds. */
const POLL = 250;
/** Likewise where no other way is left. */
const QUICK_POLL = 40;

/**
 * @param {HTMLVideoElement} video
 * @returns {FrameClock}
 */
export function frameClock(video) {
  const hasCallbacks = typeof video.requestVideoFrameCallback === "function";
  let shown = 0;
  let stopped = false;
  let hadSource = false;
  let wake = (/** @type {boolean} */ _idle) => {};
  /** @type {() => void} */
  let cancel;
  /** @type {boolean} Whether callbacks came for this source. */
  let calledBack;
  /** @type {number | undefined} Media time in the last callback, in seconds. */
  let media;
  /** @type {{ from: number, to: number, count: number }} Media times, and number in Firefox, of the frame taken last. */
  let taken;
  /** @type {boolean} Of the frame taken last only its latest time is known. */
  let openStart;
  /** @type {number | undefined} */
  let polled;
  /** A place was sought, of which nothing has been shown yet: it may be the end of the film. */
  let sought = false;
  /** The page came back with the back button. Firefox (seen in 153) may play on then without callbacks, its time standing still. */
  let restored = false;

  const newSource = () => {
    calledBack = openStart = sought = false;
    media = polled = undefined;
    taken = { from: 0, to: -1, count: 0 };
  };
  const newFrame = () => {
    shown += 1;
    sought = false;
    wake(false);
  };
  // A stream's time goes on where no frames come; there frames are counted, where the browser does.
  const position = () => {
    if (video.srcObject && hasCallbacks) return video.getVideoPlaybackQuality().totalVideoFrames;
    return (restored && presented(video)) || video.currentTime;
  };
  const poll = () => {
    const now = position();
    if (video.readyState < 2 || now === polled) return;
    polled = now;
    newFrame();
  };

  newSource();
  // A callback set now does not come for the frame that a paused video shows already.
  if (video.readyState >= 2) poll();
  if (hasCallbacks) {
    /** @type {VideoFrameRequestCallback} */
    const tick = (_, { mediaTime }) => {
      handle = video.requestVideoFrameCallback(tick);
      // One that comes to a restored page of Firefox does not promise others.
      calledBack = !(restored && presented(video));
      sought = false;
      // Of a stream by WebRTC Firefox (seen in 153) says 0 of every frame: such times tell nothing.
      const stands = video.srcObject && mediaTime === media;
      media = mediaTime;
      // It may have been taken before its callback, and has another callback when it is sought again or played on from.
      const sameTime = !stands && mediaTime <= taken.to && (openStart || mediaTime >= taken.from);
      const old = sameTime || (taken.count > 0 && taken.count === presented(video));
      openStart = false;
      if (!old) newFrame();
    };
    let handle = video.requestVideoFrameCallback(tick);
    cancel = () => video.cancelVideoFrameCallback(handle);
  } else {
    const tick = () => {
      poll();
      handle = requestAnimationFrame(tick);
    };
    let handle = requestAnimationFrame(tick);
    cancel = () => cancelAnimationFrame(handle);
  }

  const events = new AbortController();
  const listening = { signal: events.signal, capture: true }; // Errors of a <source> reach the video in that way only.
  const changed = () => wake(false);
  for (const event of ["loadeddata", "seeked", "ended", "error"]) video.addEventListener(event, changed, listening);
  const seeking = () => {
    openStart = false;
    taken.count = 0;
    sought = true;
  };
  video.addEventListener("seeking", seeking, listening);
  const emptied = () => {
    newSource();
    changed();
  };
  video.addEventListener("emptied", emptied, listening);
  video.ownerDocument.addEventListener("visibilitychange", changed, listening);
  const pageShown = (/** @type {PageTransitionEvent} */ { persisted }) => {
    if (!persisted) return;
    restored = true;
    calledBack = false;
    polled = position();
  };
  video.ownerDocument.defaultView?.addEventListener("pageshow", pageShown, listening);

  return {
    async next(seen) {
      for (;;) {
        if (stopped) return undefined;
        hadSource ||= video.networkState !== 0; /* NETWORK_EMPTY */
        if (video.error) return shown; // detect() will say what is wrong with it.
        // Its own document: a page behind may show it in a window of its own.
        const visible = video.ownerDocument.visibilityState === "visible";
        if (visible && video.readyState >= 2 && shown > seen) return shown;
        if ((video.ended && !sought) || streamEnded(video.srcObject) || (hadSource && video.networkState === 0)) return undefined;
        if (!video.ownerDocument.defaultView) return undefined; // Its frame or window is gone, and nothing in it plays.
        const idle = await new Promise((/** @type {typeof wake} */ resolve) => {
          const timer = setTimeout(resolve, restored && !calledBack ? QUICK_POLL : POLL, true);
          wake = (idle) => {
            clearTimeout(timer);
            resolve(idle);
          };
        });
        if (!idle) continue;
        if (video.networkState === 3 /* NETWORK_NO_SOURCE */) return shown; // No <source> could be played: likewise.
        const isLate = sought && !video.seeking && video.readyState >= 2;
        if (!calledBack || isLate) poll();
        if (isLate) sought = false;
      }
    },
    took(timestamp) {
      // Firefox gives all frames of a video the timestamp 0, shows them some ms before their time, and counts them.
      openStart = !timestamp;
      const time = timestamp ? timestamp / 1e6 : video.currentTime;
      taken = { from: timestamp ? time : (media ?? time), to: time, count: presented(video) };
      polled = position();
      return shown;
    },
    stop() {
      stopped = true;
      events.abort();
      cancel();
      wake(false);
    },
  };
}

/**
 * Firefox's own count of the frames that a film has shown; 0 in other browsers, and for a stream.
 * @param {HTMLVideoElement & { mozPresentedFrames?: number }} video
 */
function presented(video) {
  return video.mozPresentedFrames ?? 0;
}

/**
 * Whether the camera behind the video has stopped: not every browser ends the video then.
 * @param {MediaProvider | null} stream
 */
function streamEnded(stream) {
  if (!stream || !("getVideoTracks" in stream)) return false;
  const tracks = stream.getVideoTracks();
  return tracks.length > 0 && tracks.every(({ readyState }) => readyState === "ended");
}
