#!/usr/bin/env bash
# Trains ReActNet-20 on CIFAR-10 in two steps with distillation from a float ResNet-20: with batch normalization, and without (BN-free).
# usage: two-steps.sh DATA_DIR [OUT_DIR] [EPOCHS]     EPOCHS (20) of each step. Every run resumes where it stopped.
set -euo pipefail
data=$1
out=${2:-runs}
epochs=${3:-20}
program=${EVENKEEL:-$(dirname "$0")/../../../bin/evenkeel.js}

node "$program" train --data cifar10 --data-dir "$data" --model resnet20 --norm batch --epochs "$epochs" --seed 1 \
  --out "$out" --run teacher --resume
for norm in batch bn-free; do
  node "$program" train-binary --data cifar10 --data-dir "$data" --model reactnet20 --norm "$norm" --teacher "$out/teacher" \
    --epochs "$epochs" --seed 1 --out "$out" --run "reactnet20-$norm" --resume
done
node "$program" compare "$out"/teacher "$out"/reactnet20-*/step* --svg "$out/two-steps.svg" \
  --title "ReActNet-20 on CIFAR-10 in two steps, distilled from ResNet-20"
