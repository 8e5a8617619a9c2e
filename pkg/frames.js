// Determines when a video shows a new frame. Frames are never queued: a late caller gets the newest one.

/**
 * @typedef {object} FrameClock
 * @property {(seen: number) => Promise<number | undefined>} next the number of the newest frame as soon as it is above
 *   `seen` and the page is visible; undefined at the end of the video, when its source was taken away, or when stopped
 * @property {(timestamp?: number) => number} took reports that the shown frame was taken, and returns its number.
 *   `timestamp` is that of the frame, in microseconds, where the browser knows it
 * @property {() => boolean} isEmpty whether the video has come to its end, or begun anew several times, without a frame
 *   that could be taken: a browser may play a file whose frames are missing
 * @property {() => void} stop
 */

/** Interval in milliseconds at which a video without events is checked for a new frame. */
const POLL = 250;
/** The same if there is no other way to detect frames. */
const QUICK_POLL = 40;
/** Number of times that a looping video begins anew without a frame before it counts as empty. */
const EMPTY_LOOPS = 3;

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
  /** @type {number | undefined} The timestamp of that frame in microseconds, where the browser knows it. */
  let takenStamp;
  /** @type {boolean} Of the frame taken last only its latest time is known. */
  let openStart;
  /** @type {number | undefined} */
  let polled;
  /** @type {unknown} The last stream that had a running track. A new stream may get its tracks later. */
  let live;
  /** A seek has happened, after which no frame was shown yet: it may have reached the end of the video. */
  let sought = false;
  /** @type {boolean} A frame of this source was taken. */
  let anyTaken;
  /** @type {number} How often the source began anew before that. */
  let emptyLoops;
  /**
   * The page came back from the back/forward cache. Firefox (seen in 153) may then play without callbacks, and its time
   * stands still.
   */
  let restored = false;

  const newSource = () => {
    calledBack = openStart = sought = anyTaken = false;
    emptyLoops = 0;
    media = polled = takenStamp = undefined;
    taken = { from: 0, to: -1, count: 0 };
  };
  const newFrame = () => {
    shown += 1;
    sought = false;
    wake(false);
  };
  // The time of a stream advances even without frames. Its frames are counted instead, if the browser supports that.
  const position = () => {
    if (video.srcObject && hasCallbacks) return video.getVideoPlaybackQuality().totalVideoFrames;
    return (restored && presented(video)) || video.currentTime;
  };
  // The time of a slow video moves while it shows the same frame.
  const showsTaken = () => takenStamp !== undefined && !video.srcObject && frameStamp(video) === takenStamp;
  const poll = () => {
    const now = position();
    if (video.readyState < 2 || now === polled) return;
    polled = now;
    if (!showsTaken()) newFrame();
  };

  newSource();
  // A callback that is set now is not called for the frame that a paused video already shows.
  if (video.readyState >= 2) poll();
  if (hasCallbacks) {
    /** @type {VideoFrameRequestCallback} */
    const tick = (_, { mediaTime }) => {
      handle = video.requestVideoFrameCallback(tick);
      // In a restored page of Firefox, one callback does not mean that others will follow.
      calledBack = !(restored && presented(video));
      sought = false;
      // For a WebRTC stream, Firefox (seen in 153) reports a time of 0 for every frame, which is useless.
      const stands = video.srcObject && mediaTime === media;
      media = mediaTime;
      // The frame may have been taken before its callback. It has another callback after a seek or when playing
      // resumes.
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
    if (video.loop && !video.paused && !anyTaken && video.currentTime === 0) emptyLoops += 1;
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

  const isEmpty = () => {
    const isOver = video.ended && video.ownerDocument.visibilityState === "visible";
    return !anyTaken && (isOver || emptyLoops >= EMPTY_LOOPS);
  };

  return {
    isEmpty,
    async next(seen) {
      for (;;) {
        if (stopped) return undefined;
        hadSource ||= video.networkState !== 0; /* NETWORK_EMPTY */
        if (video.error || isEmpty()) return shown; // detect() will report the error, or get a frame after all.
        // The video's own document: a page in the background may show it in a picture-in-picture window.
        const visible = video.ownerDocument.visibilityState === "visible";
        if (visible && video.readyState >= 2 && shown > seen) return shown;
        const stream = video.srcObject;
        if (stream && "active" in stream && stream.active) live = stream;
        // Chromium (seen in 156) does not end the video if the tracks of its stream were removed.
        else if (stream && stream === live) return undefined;
        if ((video.ended && !sought) || streamEnded(stream) || (hadSource && video.networkState === 0)) return undefined;
        if (!video.ownerDocument.defaultView) return undefined; // Its iframe or window is closed, and nothing in it plays.
        const idle = await new Promise((/** @type {typeof wake} */ resolve) => {
          const timer = setTimeout(resolve, restored && !calledBack ? QUICK_POLL : POLL, true);
          wake = (idle) => {
            clearTimeout(timer);
            resolve(idle);
          };
        });
        if (!idle) continue;
        if (video.networkState === 3 /* NETWORK_NO_SOURCE */) return shown; // No <source> can be played: the same.
        const isLate = sought && !video.seeking && video.readyState >= 2;
        if (!calledBack || isLate) poll();
        if (isLate) sought = false;
      }
    },
    took(timestamp) {
      // Firefox gives all frames of a video the timestamp 0 and shows them some ms before their time, but it counts
      // them.
      openStart = !timestamp;
      takenStamp = "mozPresentedFrames" in video ? undefined : timestamp;
      anyTaken = true;
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
 * The timestamp in microseconds of the frame that a video shows; undefined if the browser does not know it.
 * @param {HTMLVideoElement} video
 */
function frameStamp(video) {
  if (typeof VideoFrame !== "function") return undefined;
  try {
    const frame = new VideoFrame(video);
    const { timestamp } = frame;
    frame.close();
    return timestamp;
  } catch {
    return undefined; // It has no frame yet, or it is of another origin.
  }
}

/**
 * Firefox's own count of the frames that a video has shown; 0 in other browsers, and for a stream.
 * @param {HTMLVideoElement & { mozPresentedFrames?: number }} video
 */
function presented(video) {
  return video.mozPresentedFrames ?? 0;
}

/**
 * Whether the camera of the video has stopped: not every browser ends the video then.
 * @param {MediaProvider | null} stream
 */
function streamEnded(stream) {
  if (!stream || !("getVideoTracks" in stream)) return false;
  const tracks = stream.getVideoTracks();
  return tracks.length > 0 && tracks.every(({ readyState }) => readyState === "ended");
}
