#!/usr/bin/env bash
# The whole job on simulated events, in the folder given; steps that are done are skipped.
#   pipelines/demo.sh build/demo
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
cd "$1"
config=(--config "$root/configs/demo.yaml")

[ -e data/raw/simulate.yaml ] || hepllm simulate "${config[@]}"
[ -e data/processed/rnd/manifest.json ] || hepllm preprocess "${config[@]}"
if [ ! -e runs/demo/run.json ]; then
    hepllm train --balance 1:1 "${config[@]}"
elif [ ! -e runs/demo/validation.parquet ]; then
    hepllm train --resume --output runs/demo
fi
if [ -e runs/demo/eval/blackbox/table.txt ]; then
    cat runs/demo/eval/rnd-test/table.txt runs/demo/eval/blackbox/table.txt
else
    hepllm eval runs/demo --blackbox
fi
python "$root/tools/studies/check_results.py" runs/demo/eval/rnd-test/metrics.json --min-nfa-drop 0.05
echo "pictures:"
printf '  %s\n' "$PWD"/runs/demo/eval/*/*.png
echo "training curves: $(dirname "$(command -v hepllm)")/tensorboard --logdir $PWD/runs"
