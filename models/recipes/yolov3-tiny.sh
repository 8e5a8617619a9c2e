#!/usr/bin/env bash
# How micro-yolov3-tiny was made, the paper's own step: YOLOv3-tiny, with the weights of its authors, made separable
# within the paper's budget. It takes some minutes of one core. Needs yolov3-tiny.cfg and yolov3-tiny.weights
# (pjreddie.com/darknet/yolo) and the training photographs in train-hand, with train-hand.json. Labels are not used.
set -euo pipefail
compress() { cargo run --release --package compress -- "$@"; }
mkdir -p runs

compress import --cfg yolov3-tiny.cfg --weights yolov3-tiny.weights --names models/recipes/coco.names \
  --output runs/yolov3-tiny.safetensors
compress decouple --checkpoint runs/yolov3-tiny.safetensors --output runs/separable.safetensors \
  --figure docs/images/decoupled.svg --data train-hand.json --imgsz 320 --images 256 \
  --multipliers 1.5,2,2.5,3,3.5,4,4.5,5,6 --projections 0.375,0.4375,0.5,0.625,0.75,0.875,1 \
  --max-parameters 2560000 --max-macs 1090000000
compress quantize --checkpoint runs/separable.safetensors --output models/micro-yolov3-tiny-int8.onnx --imgsz 416 \
  --data train-hand.json --images 96 --held-out 24

# Further training of the deep layers, with the original as the teacher and the photographs in train-teacher as well
# (needs `--features train`). micro-yolov3-tiny.safetensors was made by this method in PyTorch, from another fit.
# compress distill --run runs/distilled --network runs/separable.safetensors --init runs/separable.safetensors \
#   --init-rate 1 --freeze conv8 --teacher runs/yolov3-tiny.safetensors --photos train-hand --photos train-teacher \
#   --imgsz 416 --reuse 4 --reuse-gib 8 --images 100000 --batch 32 --relative-rate --rate 1.2e-3 --final-rate 0.02 \
#   --warmup 100 --decay 0
