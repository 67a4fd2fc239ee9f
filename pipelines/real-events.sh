#!/usr/bin/env bash
# Judges the demo's classifier, trained on simulation only, on the 1,000 real R&D events.
#   pipelines/real-events.sh build/demo path/to/events_anomalydetection_tiny.h5
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
events=$(realpath "$2")
cd "$1"
config=(--config "$root/configs/demo.yaml")

[ -e data/real/manifest.json ] || hepllm preprocess "$events" --output data/real "${config[@]}"
hepllm eval runs/demo --dataset data/real
hepllm eval runs/demo --dataset data/real \
    --hypothesis "Z' to a 500 GeV and a 100 GeV particle, both to two quarks"
python "$root/tools/studies/check_results.py" runs/demo/eval/real/metrics.json \
    --min-nfa-drop 0.05 --min-boosting-auc 0.9
