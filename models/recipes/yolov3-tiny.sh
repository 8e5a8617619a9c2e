#!/usr/bin/env bash
# The paper's own step: YOLOv3-tiny, with the weights of its authors, made separable within the paper's budget. Needs
# yolov3-tiny.cfg and yolov3-tiny.weights (pjreddie.com/darknet/yolo) and the training photographs in train-hand and
# train-teacher, with train-hand.json. Labels are not used.
set -euo pipefail
compress() { cargo run --release --package compress --features train -- "$@"; }
mkdir -p runs

compress import --cfg yolov3-tiny.cfg --weights yolov3-tiny.weights --names models/recipes/coco.names \
  --output runs/yolov3-tiny.safetensors
compress decouple --checkpoint runs/yolov3-tiny.safetensors --output runs/separable.safetensors \
  --figure docs/images/decoupled.svg --data train-hand.json --imgsz 320 --images 256 \
  --multipliers 1.5,2,2.5,3,3.5,4,4.5,5 --projections 0.375,0.5,0.75 \
  --max-parameters 2560000 --max-macs 1090000000
compress distill --run runs/micro-yolov3-tiny --network runs/separable.safetensors --init runs/separable.safetensors \
  --init-rate 1 --teacher runs/yolov3-tiny.safetensors --photos train-hand --photos train-teacher --imgsz 320 \
  --relative-rate --rate 1e-3 --final-rate 0.02 --warmup 50 --decay 0 --reuse 3 --images 200000
compress export --checkpoint runs/micro-yolov3-tiny/model.safetensors --output runs/micro-yolov3-tiny.onnx --imgsz 416
