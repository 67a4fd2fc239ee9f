#!/usr/bin/env bash
# What the numbers are worth: the same training with text only, and with text and numbers.
#   pipelines/text-only.sh build/demo
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$1"
config=(--config "$root/configs/demo.yaml" --prompt compact)

[ -e runs/text-only/validation.parquet ] ||
    hepllm train --fusion off "${config[@]}" --set name=text-only
[ -e runs/text-and-numbers/validation.parquet ] ||
    hepllm train "${config[@]}" --set name=text-and-numbers
for run in text-only text-and-numbers; do
    hepllm eval runs/$run
done
