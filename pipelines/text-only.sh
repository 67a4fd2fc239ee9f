#!/usr/bin/env bash
# What text and numbers are worth: the same events and epochs with text only, with both, and with
# numbers only.
#   pipelines/text-only.sh build/demo
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$1"
train() { # name, then options
    [ -e "runs/$1/validation.parquet" ] ||
        hepllm train --config "$root/configs/demo.yaml" --set name="$1" \
            --set train.epochs=2 --set train.validations_per_epoch=1 "${@:2}"
}
train text-only --prompt compact --fusion off
train text-and-numbers --prompt compact
train numbers-only --prompt minimal
hepllm eval runs/text-and-numbers --compare runs/text-only --compare runs/numbers-only
