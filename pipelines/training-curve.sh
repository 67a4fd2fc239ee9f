#!/usr/bin/env bash
# One pass over many simulated events, validated twenty times, and the report with its curve; steps
# that are done are skipped. Further arguments go to train.
#   pipelines/training-curve.sh build/curve 100000                             # with a GPU
#   pipelines/training-curve.sh build/curve 2000 --set backbone.device=cpu     # to try it
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
cd "$1"
events=$2
shift 2
config=(--config "$root/configs/one-signal.yaml" --set name=curve --set backbone.device=auto)
config+=(--set "simulate.rnd=$events" --set train.epochs=1 --set train.validations_per_epoch=20)

[ -e data/raw/simulate.yaml ] || hepllm simulate "${config[@]}"
[ -e data/processed/rnd/manifest.json ] || hepllm preprocess "${config[@]}"
if [ ! -e runs/curve/run.json ]; then
    hepllm train "${config[@]}" "$@"
elif [ ! -e runs/curve/validation.parquet ]; then
    hepllm train --resume --output runs/curve
fi
[ -e runs/curve/eval/rnd-test/metrics.json ] || hepllm eval runs/curve
hepllm report runs/curve
