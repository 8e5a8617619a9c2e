#!/usr/bin/env bash
# How micro-yolo-s was made. Needs the inputs of micro-yolo.sh, and its result runs/nanodet.safetensors.
#
# The released weights come from these steps in PyTorch, so a rerun gives similar weights, not the same.
set -euo pipefail
compress() { cargo run --release --package compress --features train -- "$@"; }
learn=(--teacher nanodet-plus-m.pt --photos train-hand --photos train-teacher --imgsz 320 --relative-rate --decay 0 --reuse 3)
long=(--final-rate 0.02 --warmup 50 --mosaic-until 1 --mixup 0 --cover 0)

compress prune --run runs/s-cut --checkpoint runs/nanodet.safetensors --max-macs 495000000 --share 0.2 \
  --round-images 3000 "${learn[@]}" --rate 7e-4 --val train-hand.json --val-images 200
compress distill --run runs/s --network runs/s-cut/network.json --init runs/s-cut/model.safetensors --init-rate 1 \
  "${learn[@]}" "${long[@]}" --rate 7e-4 --images 35000
compress equalize --checkpoint runs/s/model.safetensors --output runs/s-equalized.safetensors --imgsz 416 \
  --data train-hand.json --images 96
compress distill --run runs/s-int8 --network runs/s-equalized.safetensors --init runs/s-equalized.safetensors --init-rate 1 \
  --int8 "${learn[@]}" "${long[@]}" --rate 4e-4 --images 10000

# Again at 416 px, in floats and with int8 rounding. The first convolution stays as it is.
again=(--teacher nanodet-plus-m.pt --photos train-hand --photos train-teacher --imgsz 416 --freeze pool --batch 16
  --relative-rate --decay 0 --reuse 3 --final-rate 0.02 --warmup 60 --mosaic-until 1 --mixup 0 --cover 0)
compress distill --run runs/s-416 --network runs/s-int8/model.safetensors --init runs/s-int8/model.safetensors \
  --init-rate 1 "${again[@]}" --rate 7e-4 --images 42500
compress equalize --checkpoint runs/s-416/model.safetensors --output runs/s-416-equalized.safetensors --imgsz 416 \
  --data train-hand.json --images 96
compress distill --run runs/s-416-int8 --network runs/s-416-equalized.safetensors \
  --init runs/s-416-equalized.safetensors --init-rate 1 --int8 "${again[@]}" --rate 4e-4 --images 12200
compress export --checkpoint runs/s-416-int8/model.safetensors --output models/micro-yolo-s.onnx --imgsz 416
compress quantize --checkpoint runs/s-416-int8/model.safetensors --output models/micro-yolo-s-int8.onnx --imgsz 416 \
  --data train-hand.json --images 96 --held-out 48
