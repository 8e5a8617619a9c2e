#!/usr/bin/env bash
# How micro-yolo was made. Needs nanodet-plus-m.pt (docs/train-your-own.md says what the module must provide) and the
# training photographs in train-hand and train-teacher, with train-hand.json. Boxes are used only to measure (`--val`).
#
# The released weights come from these steps in PyTorch, so a rerun gives similar weights, not the same.
set -euo pipefail
compress() { cargo run --release --package compress --features train -- "$@"; }
learn=(--teacher nanodet-plus-m.pt --photos train-hand --photos train-teacher --imgsz 320 --relative-rate --decay 0 --reuse 3
  --final-rate 0.02 --warmup 50 --mosaic-until 1 --mixup 0 --cover 0)
mkdir -p runs

compress import --nanodet nanodet-plus-m.pt --names models/recipes/coco.names --output runs/nanodet.safetensors
compress prune --run runs/cut --checkpoint runs/nanodet.safetensors --max-macs 692000000 --share 0.06 --round-images 0 \
  --teacher nanodet-plus-m.pt --photos train-hand --val train-hand.json --val-images 200
compress distill --run runs/tuned --network runs/cut/network.json --init runs/cut/model.safetensors --init-rate 1 \
  "${learn[@]}" --rate 7e-4 --images 10000
compress equalize --checkpoint runs/tuned/model.safetensors --output runs/equalized.safetensors --imgsz 416 \
  --data train-hand.json --images 96
compress distill --run runs/int8 --network runs/equalized.safetensors --init runs/equalized.safetensors --init-rate 1 --int8 \
  "${learn[@]}" --rate 4e-4 --images 9000

# Again at 416 px, in floats and with int8 rounding. The first convolution stays as it is.
again=(--teacher nanodet-plus-m.pt --photos train-hand --photos train-teacher --imgsz 416 --freeze pool --batch 16
  --relative-rate --decay 0 --reuse 3 --final-rate 0.02 --warmup 60 --mosaic-until 1 --mixup 0 --cover 0)
compress distill --run runs/large-416 --network runs/int8/model.safetensors --init runs/int8/model.safetensors \
  --init-rate 1 "${again[@]}" --rate 5e-4 --images 29000
compress equalize --checkpoint runs/large-416/model.safetensors --output runs/large-416-equalized.safetensors --imgsz 416 \
  --data train-hand.json --images 96
compress distill --run runs/large-416-int8 --network runs/large-416-equalized.safetensors \
  --init runs/large-416-equalized.safetensors --init-rate 1 --int8 "${again[@]}" --rate 4e-4 --images 11500
compress export --checkpoint runs/large-416-int8/model.safetensors --output models/micro-yolo.onnx --imgsz 416
compress quantize --checkpoint runs/large-416-int8/model.safetensors --output models/micro-yolo-int8.onnx --imgsz 416 \
  --data train-hand.json --images 96 --held-out 24
