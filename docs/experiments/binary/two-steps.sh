#!/usr/bin/env bash
# Trains ReActNet-20 on CIFAR-10 in two steps with distillation from a float ResNet-20: with batch normalization, and without (BN-free).
# usage: two-steps.sh DATA_DIR [OUT_DIR] [EPOCHS] [WIDTH]
# EPOCHS (20) of the teacher and of each step; WIDTH (16) of the binary network. NORMS="bn-free" runs one of the two, LIMIT=20000 takes
# that many training images.
# Every run resumes where it stopped: run the script again after an interruption.
set -euo pipefail
data=$1
out=${2:-runs}
epochs=${3:-20}
width=${4:-16}
limit=${LIMIT:-50000}
program=${EVENKEEL:-$(dirname "$0")/../../../bin/evenkeel.js}

node "$program" train --data cifar10 --data-dir "$data" --train-limit "$limit" --model resnet20 --norm batch --epochs "$epochs" --seed 1 \
  --out "$out" --run teacher --resume
for norm in ${NORMS:-batch bn-free}; do
  node "$program" train-binary --data cifar10 --data-dir "$data" --train-limit "$limit" --model reactnet20 --width "$width" --norm "$norm" --teacher "$out/teacher" \
    --epochs "$epochs" --seed 1 --out "$out" --run "reactnet20-$norm" --resume
done
node "$program" compare "$out"/teacher "$out"/reactnet20-*/step* --svg "$out/two-steps.svg" \
  --title "ReActNet-20 on CIFAR-10 in two steps, distilled from ResNet-20"
