#!/usr/bin/env bash
# How micro-yolo-s was made, run by run. The schedule follows the clock, so another machine sees another number of images.
# `release` was made with older defaults of augmentation (no mixup, no cutout, `--draw 4 2.5`) and a network without a head
# at stride 8, and `prune` then tried one width at a time: a rerun gives another model. Needs train-hand.json, train-teacher.json and mobilenet-v1-0.5.safetensors here.
set -euo pipefail
compress() { cargo run --release --package compress --features train -- "$@"; }

compress train --run runs/release --data train-hand.json --data train-teacher.json \
  --init mobilenet-v1-0.5.safetensors --freeze block3 --imgsz 192,256@0.55 --images 1000000 --minutes 57
compress prune --run runs/prune --checkpoint runs/release/model.safetensors --max-parameters 1000000 \
  --max-macs 500000000 --round-images 5000 --mosaic 0 \
  --data train-hand.json --data train-teacher.json --val train-hand.json --val-images 200 --imgsz 256
compress train --run runs/thin --network runs/prune/network.json --init runs/prune/model.safetensors --init-rate 1 \
  --rate 1e-3 --freeze block1 --data train-hand.json --data train-teacher.json --imgsz 256 --minutes 22 \
  --images 2000000 --mosaic-until 0.6 --seed 3 --warmup 200
compress train --run runs/thin-more --network runs/prune/network.json --init runs/thin/model.safetensors \
  --init-rate 1 --rate 0.0012 --freeze block2 --data train-hand.json --data train-teacher.json \
  --imgsz 256,320@0.6 --minutes 14 --images 2000000 --mosaic-until 0.6 --seed 4 --warmup 200
compress train --run runs/thin-third --network runs/prune/network.json --init runs/thin-more/model.safetensors \
  --init-rate 1 --rate 0.0012 --freeze block2 --data train-hand.json --data train-teacher.json \
  --imgsz 256,320@0.55 --minutes 28 --images 2000000 --mosaic-until 0.65 --seed 5 --warmup 300
compress train --run runs/thin-fourth --network runs/prune/network.json --init runs/thin-third/model.safetensors \
  --init-rate 1 --rate 0.0017 --decay 0.05 --freeze block2 --data train-hand.json --data train-teacher.json \
  --imgsz 256,320@0.6 --minutes 18 --images 2000000 --mosaic-until 1 --teacher-min 0.25 --seed 5
compress average --checkpoint runs/thin-third/model.safetensors --checkpoint runs/thin-fourth/model.safetensors \
  --output runs/thin-both.safetensors
compress train --run runs/thin-sixth --network runs/prune/network.json --init runs/thin-both.safetensors --init-rate 1 \
  --rate 0.001 --final-rate 0.5 --average-over 0.5 --decay 0.05 --freeze block2 --data train-hand.json \
  --data train-teacher.json --imgsz 256,320@0.3 --minutes 15 --images 2000000 --mosaic-until 1 --teacher-min 0.25
compress average --checkpoint runs/thin-both.safetensors --checkpoint runs/thin-sixth/model.safetensors \
  --output runs/thin-three.safetensors
compress train --run runs/thin-rounded --int8 --network runs/prune/network.json --init runs/thin-three.safetensors \
  --init-rate 1 --rate 0.0003 --final-rate 0.3 --average-over 0.6 --decay 0.05 --data train-hand.json \
  --data train-teacher.json --imgsz 320 --minutes 25 --images 2000000 --mosaic-until 1 --teacher-min 0.25 --warmup 200 --seed 21
compress average --checkpoint runs/thin-three.safetensors --checkpoint runs/thin-rounded/model.safetensors \
  --output runs/thin-four.safetensors
compress train --run runs/thin-gpu --device cuda --network runs/prune/network.json --init runs/thin-four.safetensors \
  --init-rate 1 --rate 0.002 --decay 0.05 --batch 128 --freeze block2 --data train-hand.json --data train-teacher.json \
  --imgsz 320 --images 100000000 --minutes 6.6 --mosaic-until 1 --teacher-min 0.25 --warmup 500 --seed 31
compress average --checkpoint runs/thin-four.safetensors --checkpoint runs/thin-gpu/model.safetensors \
  --output runs/thin-five.safetensors
compress train --run runs/thin-rounded2 --int8 --network runs/prune/network.json --init runs/thin-five.safetensors \
  --init-rate 1 --rate 0.0004 --final-rate 0.2 --average-over 0.6 --decay 0.05 --data train-hand.json \
  --data train-teacher.json --imgsz 320 --minutes 35 --images 2000000 --mosaic-until 1 --teacher-min 0.25 --warmup 200 --seed 41
compress average --checkpoint runs/thin-five.safetensors --checkpoint runs/thin-rounded2/model.safetensors \
  --output runs/thin-six.safetensors
compress revive --checkpoint runs/thin-six.safetensors --output runs/thin-six-revived.safetensors --imgsz 320 \
  --data train-hand.json --data train-teacher.json
compress train --run runs/thin-gpu3 --device cuda --network runs/prune/network.json --init runs/thin-six-revived.safetensors \
  --init-rate 1 --rate 0.002 --final-rate 0.1 --average-over 0.25 --decay 0.05 --batch 128 --freeze block2 \
  --data train-hand.json --data train-teacher.json --imgsz 320 --images 100000000 --minutes 12 --mosaic-until 1 \
  --teacher-min 0.25 --warmup 500 --seed 132
compress average --checkpoint runs/thin-six-revived.safetensors --checkpoint runs/thin-gpu3/model.safetensors \
  --output runs/thin-seven.safetensors
compress trim --checkpoint runs/thin-seven.safetensors --output models/micro-yolo-s.safetensors --imgsz 320 --multiple 4 \
  --data train-hand.json --data train-teacher.json
compress export --checkpoint models/micro-yolo-s.safetensors --output models/micro-yolo-s.onnx --imgsz 320
compress quantize --checkpoint models/micro-yolo-s.safetensors --output models/micro-yolo-s-int8.onnx --imgsz 320 \
  --data train-hand.json --data train-teacher.json
