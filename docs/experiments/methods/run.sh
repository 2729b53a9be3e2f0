#!/usr/bin/env bash
# Trains ResNet-20 (half width) on 10,000 CIFAR-10 images for 2 epochs with every normalization method, at batch sizes 64 and 2, and prints
# the table of this folder's README. Seed 1 runs at two learning rates; the seeds 2 and 3 at the better of the two.
# usage: run.sh DATA_DIR [OUT_DIR] [METHOD ...]     Every run resumes where it stopped; run the script again after an interruption.
set -euo pipefail
data=$1
out=${2:-runs}
shift $(($# < 2 ? $# : 2))
program=${EVENKEEL:-$(dirname "$0")/../../../bin/evenkeel.js}
methods=("$@")
[ ${#methods[@]} = 0 ] && methods=(none batch batch-renorm ghost group layer instance rms frn proxy evonorm-s0 evonorm-b0 switchable online
  weight-standardized-group bn-free ic kalman bnp)

# train METHOD BATCH RATE SEED
train() {
  local options=()
  # Batch Renorm's limits grow over shares of the run: 5 %, 40 % and 25 % of the steps. Its momentum follows from the first.
  if [ "$1" = batch-renorm ]; then
    local steps=$((2 * ((10000 + $2 - 1) / $2)))
    options=(--norm-option "plainSteps=$((steps / 20))" --norm-option "scaleSteps=$((steps * 2 / 5))" --norm-option "shiftSteps=$((steps / 4))")
  fi
  node "$program" train --data cifar10 --data-dir "$data" --model resnet20 --width 8 --norm "$1" ${options[@]+"${options[@]}"} --batch-size "$2" \
    --epochs 2 --train-limit 10000 --lr "$3" --seed "$4" --out "$out" --run "$1-batch$2-rate$3-seed$4" --resume >/dev/null ||
    echo "$1 at batch size $2, rate $3, seed $4 did not finish" >&2
}

# accuracy METHOD BATCH RATE: that of seed 1 after the last epoch, 0 for a run that did not finish
accuracy() {
  awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i } NR > 1 { last = $column["validation_top1"] } END { print last + 0 }' \
    "$out/$1-batch$2-rate$3-seed1/metrics.csv" 2>/dev/null || echo 0
}

for batch in ${BATCH_SIZES:-64 2}; do
  for norm in "${methods[@]}"; do
    if [ "$batch" = 64 ]; then rates=(0.1 0.02); else rates=(0.006 0.0015); fi
    # A minute a run at batch size 2: only the rate that is better for most.
    case $batch-$norm in 2-online | 2-evonorm-b0 | 2-switchable) rates=(0.006) ;; esac
    for rate in "${rates[@]}"; do train "$norm" "$batch" "$rate" 1; done
    better=$(for rate in "${rates[@]}"; do echo "$(accuracy "$norm" "$batch" "$rate") $rate"; done | sort -g | tail -1 | cut -d' ' -f2)
    for seed in 2 3; do train "$norm" "$batch" "$better" "$seed"; done
  done
done
node "$program" compare "$out"/*-seed*
