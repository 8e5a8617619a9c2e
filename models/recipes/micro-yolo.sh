#!/usr/bin/env bash
# How micro-yolo was made. Needs nanodet-plus-m.pt (its contract: docs/train-your-own.md), the training photographs in
# train-hand and train-teacher, and Python with torch 2.11.0, numpy, safetensors and pillow.
#
# The released weights come from the third step as a PyTorch script, with the same losses, Adam, and rates in proportion to
# the size of each tensor. `compress distill` has the losses and AdamW, so a rerun gives similar weights, not the same.
set -euo pipefail
compress() { cargo run --release --package compress --features train -- "$@"; }
recipes=compress/recipes
mkdir -p runs

python3 $recipes/chain.py --teacher nanodet-plus-m.pt --photos train-hand --out runs/chain.safetensors
python3 $recipes/thin.py --checkpoint runs/chain.safetensors --photos train-hand --gmac 1.08 --out runs/thin.safetensors
compress distill --teacher nanodet-plus-m.pt --stage whole --network runs/thin.json --init runs/thin.safetensors \
  --init-rate 1 --rate 1e-4 --decay 0 --imgsz 320 --images 12500 --mixup 0 --cover 0 --warmup 50 \
  --data train-hand.json --data train-teacher.json --run runs/distill
cp runs/distill/model.safetensors models/micro-yolo.safetensors
compress export --checkpoint models/micro-yolo.safetensors --output models/micro-yolo.onnx --imgsz 416
compress quantize --checkpoint models/micro-yolo.safetensors --output models/micro-yolo-int8.onnx --imgsz 416 \
  --data train-hand.json --images 96 --held-out 24
