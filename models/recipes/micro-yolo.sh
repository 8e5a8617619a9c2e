#!/usr/bin/env bash
# How micro-yolo was made. Needs nanodet-plus-m.pt (its contract: docs/train-your-own.md), the training photographs in
# train-hand and train-teacher, and Python with torch 2.11.0, numpy, safetensors and pillow.
#
# The released weights come from these steps with another loader of photographs (mosaics as well), so a rerun gives similar
# weights, not the same. `compress distill` has the third and, with --int8, the fourth step too, with AdamW.
set -euo pipefail
compress() { cargo run --release --package compress --features train -- "$@"; }
recipes=compress/recipes
mkdir -p runs

python3 $recipes/chain.py --teacher nanodet-plus-m.pt --photos train-hand --out runs/chain.safetensors
python3 $recipes/thin.py --checkpoint runs/chain.safetensors --photos train-hand --gmac 1.08 --out runs/thin.safetensors
python3 $recipes/tune.py --teacher nanodet-plus-m.pt --photos train-hand --images 23000 \
  --checkpoint runs/thin.safetensors --out runs/tuned.safetensors
python3 $recipes/tune.py --teacher nanodet-plus-m.pt --photos train-hand --images 15000 --int8 --rate 3.5e-4 \
  --checkpoint runs/tuned.safetensors --out models/micro-yolo.safetensors
compress export --checkpoint models/micro-yolo.safetensors --output models/micro-yolo.onnx --imgsz 416
compress quantize --checkpoint models/micro-yolo.safetensors --output models/micro-yolo-int8.onnx --imgsz 416 \
  --no-equalize --method percentile --percentile 99.99 --data train-hand.json --images 96 --held-out 24
