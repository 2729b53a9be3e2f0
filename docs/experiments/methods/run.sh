#!/usr/bin/env bash
# Trains ResNet-20 (half width) on 10,000 CIFAR-10 images for 2 epochs with every normalization method, at batch sizes 64 and 2, with three
# seeds, and prints the table of this folder's README.
# usage: run.sh DATA_DIR [OUT_DIR] [METHOD ...]     Every run resumes where it stopped; run the script again after an interruption.
set -euo pipefail
data=$1
out=${2:-runs}
shift $(($# < 2 ? $# : 2))
program=${EVENKEEL:-$(dirname "$0")/../../../bin/evenkeel.js}
methods=("$@")
[ ${#methods[@]} = 0 ] && methods=(none batch group layer instance rms frn proxy weight-standardized-group bn-free ic kalman bnp)

for seed in 1 2 3; do
  for norm in "${methods[@]}"; do
    for batch in 64 2; do
      # One rate for all methods, scaled with the batch as far as small steps stay stable.
      rate=$([ "$batch" = 64 ] && echo 0.1 || echo 0.006)
      node "$program" train --data cifar10 --data-dir "$data" --model resnet20 --width 8 --norm "$norm" --batch-size "$batch" \
        --epochs 2 --train-limit 10000 --lr "$rate" --seed "$seed" --out "$out" --run "$norm-batch$batch-seed$seed" --resume ||
        echo "$norm at batch size $batch with seed $seed did not finish" >&2
    done
  done
done
node "$program" compare "$out"/*-batch*-seed*
