"use client";

import { useEffect, useRef, useState } from "react";
import { Detector } from "micro-yolo";

export function Objects({ src }) {
  const picture = useRef(null);
  const [text, setText] = useState("");
  useEffect(() => {
    const stop = new AbortController();
    const { signal } = stop;
    (async () => {
      const detector = await Detector.load({ scoreThreshold: 0.4, signal });
      try {
        const objects = await detector.detect(picture.current, { signal });
        setText(objects.map(({ label }) => label).join(", "));
      } finally {
        detector.dispose();
      }
    })().catch((error) => signal.aborted || setText(error.message));
    return () => stop.abort();
  }, [src]);
  return (
    <figure>
      <img ref={picture} src={src} alt="" />
      <figcaption>{text}</figcaption>
    </figure>
  );
}
