#!/usr/bin/env bash
# Several seeds of configs/one-signal.yaml, and of a shorter training with and without text: is the language model
# better than its baselines, and does text help? Steps that are done are skipped.
#   pipelines/seeds.sh build/seeds 1 2 3 4 5
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
cd "$1"
shift
config=(--config "$root/configs/one-signal.yaml")
train() { # name, seed, then options
    local run="runs/$1-$2"
    if [ -e "$run/validation.parquet" ]; then
        return
    elif [ -e "$run/run.json" ]; then
        hepllm train --resume --output "$run"
    else
        hepllm train --output "$run" --seed "$2" "${config[@]}" "${@:3}"
    fi
}
short=(--set train.epochs=1 --set train.validations_per_epoch=1)

[ -e data/raw/simulate.yaml ] || hepllm simulate "${config[@]}"
[ -e data/processed/rnd/manifest.json ] || hepllm preprocess "${config[@]}"
for seed in "$@"; do
    train demo "$seed"
done
for seed in "$@"; do
    train numbers "$seed" "${short[@]}"
    train text-and-numbers "$seed" --prompt compact "${short[@]}"
done
hepllm eval "${@/#/runs/demo-}" --blackbox
hepllm eval "${@/#/runs/text-and-numbers-}" --against "${@/#/runs/numbers-}"
