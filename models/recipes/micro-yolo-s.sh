#!/usr/bin/env bash
# How micro-yolo-s was made, after micro-yolo.sh, whose runs/tuned.safetensors it starts from. Needs nanodet-plus-m.pt and
# the photographs in train-hand and train-teacher, with train-hand.json.
#
# The released weights come from these steps in PyTorch, so a rerun gives similar weights, not the same.
set -euo pipefail
compress() { cargo run --release --package compress --features train -- "$@"; }
learn=(--teacher nanodet-plus-m.pt --photos train-hand --photos train-teacher --imgsz 320 --relative-rate --decay 0)

compress prune --run runs/s-cut --checkpoint runs/tuned.safetensors --max-macs 495000000 --share 0.31 \
  --round-images 3000 "${learn[@]}" --reuse 3 --rate 7e-4 --val train-hand.json --val-images 200
compress distill --run runs/s --network runs/s-cut/network.json --init runs/s-cut/model.safetensors --init-rate 1 \
  "${learn[@]}" --reuse 3 --rate 2e-3 --final-rate 0.02 --warmup 50 --images 70000 --mosaic-until 1 --mixup 0 --cover 0
compress distill --run runs/s-int8 --network runs/s-cut/network.json --init runs/s/model.safetensors --init-rate 1 --int8 \
  "${learn[@]}" --reuse 3 --rate 4e-4 --final-rate 0.02 --warmup 60 --images 14000 --mosaic-until 1 --mixup 0 --cover 0
compress export --checkpoint runs/s-int8/model.safetensors --output models/micro-yolo-s.onnx --imgsz 416
compress quantize --checkpoint runs/s-int8/model.safetensors --output models/micro-yolo-s-int8.onnx --imgsz 416 \
  --no-equalize --method percentile --percentile 99.99 --data train-hand.json --images 96 --held-out 24
