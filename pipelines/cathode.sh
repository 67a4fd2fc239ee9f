#!/usr/bin/env bash
# Trains on the signal-region features of CATHODE (innerdata_*.npy, arXiv:2109.00546) and judges on
# the quarter of the events that the hash of their content holds out; steps that are done are skipped.
#   pipelines/cathode.sh path/to/folder/of/npy/files build/cathode
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source=$(realpath "$1")
mkdir -p "$2"
cd "$2"
config=(--config "$root/configs/cathode.yaml")

[ -e data/processed/cathode/manifest.json ] ||
    hepllm preprocess "$source"/innerdata_*.npy --output data/processed/cathode "${config[@]}"
if [ ! -e runs/cathode/run.json ]; then
    hepllm train data/processed/cathode --output runs/cathode "${config[@]}"
elif [ ! -e runs/cathode/validation.parquet ]; then
    hepllm train --resume --output runs/cathode
fi
hepllm eval runs/cathode
