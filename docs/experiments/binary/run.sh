#!/usr/bin/env bash
# Trains a narrow ReActNet-20 (18 binary convolutions of 8, 16 and 32 channels) on 3,000 CIFAR-10 images for 4 epochs, with and without batch
# normalization and without single ingredients of the BN-free method, with four seeds, and prints the table of this folder's README.
# usage: run.sh DATA_DIR [OUT_DIR] [SEED ...]     Every run resumes where it stopped; run the script again after an interruption.
set -euo pipefail
data=$1
out=${2:-runs}
shift $(($# < 2 ? $# : 2))
program=${EVENKEEL:-$(dirname "$0")/../../../bin/evenkeel.js}
seeds=("$@")
[ ${#seeds[@]} = 0 ] && seeds=(1 2 3 4)

arm() { # NAME NORM [NORM_OPTION ...]
  local name=$1 norm=$2
  shift 2
  node "$program" train --data cifar10 --data-dir "$data" --model reactnet20 --width 8 --norm "$norm" "${@/#/--norm-option=}" \
    --model-option latentInitialization=reference --model-option downsample=binary-weight \
    --optimizer adam --lr 0.01 --schedule linear --warmup 0 --batch-size 100 --epochs 4 --train-limit 3000 --no-augment \
    --seed "$seed" --out "$out" --run "$name-seed$seed" --resume || echo "$name with seed $seed did not finish" >&2
}

for seed in "${seeds[@]}"; do
  arm bn batch
  arm bn-free bn-free
  arm bn-free-without-clipping bn-free clipping=0
  arm bn-free-without-standardization bn-free standardize=false
  arm bn-free-without-scaling bn-free alpha=1 beta=none
  arm bare none
done
node "$program" compare "$out"/*-seed* --svg "$out/accuracy.svg" --title "ReActNet-20 (half width), 3,000 images of CIFAR-10, 4 epochs"
