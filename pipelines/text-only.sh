#!/usr/bin/env bash
# What text and numbers are worth: the same events and epochs with text only, with both, and with
# numbers only; steps that are done are skipped.
#   pipelines/text-only.sh build/one-signal
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
cd "$1"
config=(--config "$root/configs/one-signal.yaml")
[ -e data/raw/simulate.yaml ] || hepllm simulate "${config[@]}"
[ -e data/processed/rnd/manifest.json ] || hepllm preprocess "${config[@]}"
train() { # name, then options
    if [ -e "runs/$1/validation.parquet" ]; then
        return
    elif [ -e "runs/$1/run.json" ]; then
        hepllm train --resume --output "runs/$1"
    else
        hepllm train "${config[@]}" --set name="$1" \
            --set train.epochs=2 --set train.validations_per_epoch=1 "${@:2}"
    fi
}
train text-only --prompt compact --fusion off
train text-and-numbers --prompt compact
train numbers-only --prompt minimal
hepllm eval runs/text-and-numbers --compare runs/text-only --compare runs/numbers-only
