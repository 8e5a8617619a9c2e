//! Makes Micro-YOLO models.
