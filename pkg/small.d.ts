// The same as `micro-yolo`, without the engines that run networks from elsewhere: such a model is refused with the code
// `needs-tract`.
export * from "./index.js";
