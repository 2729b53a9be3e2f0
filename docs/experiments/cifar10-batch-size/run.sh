#!/usr/bin/env bash
# Trains ResNet-20 (half width) on CIFAR-10 with batch norm and filter response norm, at batch sizes 128 and 4.
# usage: run.sh DATA_DIR [OUT_DIR]     Every run resumes where it stopped; run the script again after an interruption.
#
# First a sweep of the learning rate, the same four values for both methods at one batch size, on 10,000 images for 3 epochs; then 8
# epochs on all 50,000 images with the rate that validated best.
set -euo pipefail
data=$1
out=${2:-runs}
evenkeel() { node "$(dirname "$0")/../../../bin/evenkeel.js" "$@"; }
common=(--data cifar10 --data-dir "$data" --model resnet20 --width 8 --out "$out" --resume)

for batch in 128 4; do
  rates=(0.4 0.2 0.1 0.05)
  [ "$batch" = 4 ] && rates=(0.025 0.0125 0.006 0.003)
  for norm in batch frn; do
    best=
    for rate in "${rates[@]}"; do
      run=sweep-$norm-$batch-$rate
      evenkeel train "${common[@]}" --norm $norm --batch-size $batch --epochs 3 --train-limit 10000 --lr "$rate" --seed 7 --run "$run"
      accuracy=$(tail -n 1 "$out/$run/metrics.csv" | cut -d, -f8)
      best=$(printf '%s\n%s\n' "$best" "$accuracy $rate" | sort -rn | head -n 1)
    done
    evenkeel train "${common[@]}" --norm $norm --batch-size $batch --epochs 8 --lr "${best#* }" --seed 1 --run cifar10-resnet20-$norm-batch$batch
  done
done
evenkeel compare "$out"/cifar10-resnet20-* --svg "$out/cifar10-batch-size.svg" --title "ResNet-20, half width, on CIFAR-10"
