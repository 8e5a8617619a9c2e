// The same as `micro-yolo`, in one module without other files: engine for this project's networks, model and worker are
// inside. `threads` has no effect there.
export * from "./index.js";
