//! Object detection in the browser and natively.
