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
[ ${#methods[@]} = 0 ] && methods=(none batch batch-renorm ghost group layer instance rms frn proxy evonorm-s0 evonorm-b0 switchable online
  weight-standardized-group bn-free ic kalman bnp)
# For a quick check of the script itself: LIMIT=200 EPOCHS=1 SEEDS=1.
limit=${LIMIT:-10000}
epochs=${EPOCHS:-2}

for seed in ${SEEDS:-1 2 3}; do
  for norm in "${methods[@]}"; do
    for batch in 64 2; do
      # One rate for all methods, scaled with the batch as far as small steps stay stable.
      rate=$([ "$batch" = 64 ] && echo 0.1 || echo 0.006)
      options=()
      if [ "$norm" = batch-renorm ]; then
        # Its limits grow over shares of the run: 5 %, 40 % and 25 % of the steps.
        steps=$((epochs * ((limit + batch - 1) / batch)))
        for option in plainSteps=$((steps / 20)) scaleSteps=$((steps * 2 / 5)) shiftSteps=$((steps / 4)); do
          options+=(--norm-option "$option")
        done
      fi
      node "$program" train --data cifar10 --data-dir "$data" --model resnet20 --width 8 --norm "$norm" "${options[@]}" \
        --batch-size "$batch" --epochs "$epochs" --train-limit "$limit" --lr "$rate" --seed "$seed" --out "$out" --run "$norm-batch$batch-seed$seed" --resume ||
        echo "$norm at batch size $batch with seed $seed did not finish" >&2
    done
  done
done
# Runs that diverged before their first validation have nothing to compare.
finished=()
for run in "$out"/*-batch*-seed*; do
  if [ "$(wc -l <"$run/metrics.csv")" -gt 1 ]; then finished+=("$run"); fi
done
node "$program" compare "${finished[@]}"
