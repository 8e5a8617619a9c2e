#!/usr/bin/env bash
# How micro-yolov3-tiny was made: YOLOv3-tiny, with the weights of its authors, compressed to the budget of the
# Micro-YOLO paper. Needs yolov3-tiny.cfg and yolov3-tiny.weights (pjreddie.com/darknet/yolo), NanoDet-Plus-m as a
# TorchScript module (docs/train-your-own.md, "Distil from a trained network"), and the training photographs in
# train-hand and train-teacher, with train-hand.json. Labels are not used.
#
# The released weights were made by these steps in PyTorch with separately fitted convolutions, so a rerun gives similar
# weights, not the same. `decouple` and `quantize` alone, without training, give about 30 AP50 on coco-val in some
# minutes.
set -euo pipefail
compress() { cargo run --release --package compress --features train -- "$@"; }
learn=(--teacher runs/yolov3-tiny.safetensors --photos train-hand --photos train-teacher --batch 32 --relative-rate --decay 0
  --final-rate 0.02 --warmup 100 --mosaic-until 1 --cover 0)
mkdir -p runs

compress import --cfg yolov3-tiny.cfg --weights yolov3-tiny.weights --names models/recipes/coco.names \
  --output runs/yolov3-tiny.safetensors
compress decouple --checkpoint runs/yolov3-tiny.safetensors --output runs/separable.safetensors \
  --figure docs/images/decoupled.svg --data train-hand.json --imgsz 320 --images 256 \
  --multipliers 1.5,2,2.5,3,3.5,4,4.5,5,6 --projections 0.375,0.4375,0.5,0.625,0.75,0.875,1 \
  --max-parameters 2560000 --max-macs 1090000000

# Trains the layers behind conv8, those up to it, and those behind it again; then averages the first and the last
# weights.
compress distill --run runs/deep --network runs/separable.safetensors --init runs/separable.safetensors --init-rate 1 \
  "${learn[@]}" --mixup 0 --freeze conv8 --imgsz 416 --reuse 6 --reuse-gib 8 --images 270000 --rate 1.2e-3
compress distill --run runs/front --network runs/deep/model.safetensors --init runs/deep/model.safetensors --init-rate 1 \
  "${learn[@]}" --mixup 0 --stage maps --until conv8 --imgsz 256 --images 10000 --rate 5e-4
compress distill --run runs/deep-again --network runs/front/model.safetensors --init runs/front/model.safetensors \
  --init-rate 1 "${learn[@]}" --mixup 0 --freeze conv8 --imgsz 416 --reuse 3 --reuse-gib 8 --images 127000 --rate 1.2e-3
compress average --checkpoint runs/deep/model.safetensors --checkpoint runs/deep-again/model.safetensors \
  --output runs/average.safetensors

# Trains the layers behind conv8 with two teachers. The new weights count three times in the average.
compress distill --run runs/two-teachers --network runs/average.safetensors --init runs/average.safetensors \
  --init-rate 1 "${learn[@]}" --second-teacher nanodet-plus-m.pt --mixup 0.25 --freeze conv8 --imgsz 416 --reuse 3 \
  --reuse-gib 8 --images 137000 --rate 1.5e-3
after=runs/two-teachers/model.safetensors
compress average --checkpoint runs/average.safetensors --checkpoint $after --checkpoint $after --checkpoint $after \
  --output runs/final.safetensors

# Equalised first, so that the checkpoint has the weights of the int8 file.
compress equalize --checkpoint runs/final.safetensors --output models/micro-yolov3-tiny.safetensors --imgsz 416 \
  --data train-hand.json --images 96
compress quantize --checkpoint models/micro-yolov3-tiny.safetensors --output models/micro-yolov3-tiny-int8.onnx \
  --imgsz 416 --no-equalize --data train-hand.json --images 96 --held-out 48
