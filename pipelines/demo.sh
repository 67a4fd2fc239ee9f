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
# The black box once more as it would come from an experiment: without its key.
if [ ! -e data/processed/unknown/manifest.json ]; then
    mkdir -p data/unlabelled
    cp data/raw/blackbox.h5 data/unlabelled/unknown.h5
    hepllm preprocess data/unlabelled/unknown.h5 "${config[@]}"
fi
if [ ! -e runs/demo/run.json ]; then
    hepllm train --balance 1:1 "${config[@]}"
elif [ ! -e runs/demo/validation.parquet ]; then
    hepllm train --resume --output runs/demo
fi
# Twice with a hypothesis: that of the box, and a wrong one.
true="Z' to a 500 GeV and a 100 GeV particle, both to two quarks"
wrong="Z' to a 250 GeV and a 250 GeV particle, both to two quarks"
if [ -e runs/demo/eval/done ]; then
    cat runs/demo/eval/*/table.txt
else
    hepllm eval runs/demo --blackbox
    # The classifiers that read no hypothesis were measured on this box just now.
    peers=(--set "evaluation.baselines=[boosting,boosting_differences]")
    peers+=(--set evaluation.ablation_events=1000)
    hepllm eval runs/demo --dataset data/processed/blackbox \
        --hypothesis "$true" --hypothesis "$wrong" "${peers[@]}"
    touch runs/demo/eval/done
fi
hepllm report runs/demo > runs/demo/report.log
python "$root/tools/studies/check_results.py" runs/demo/eval/rnd-test/metrics.json --min-nfa-drop 0.05
echo "training curves: $(dirname "$(command -v hepllm)")/tensorboard --logdir $PWD/runs"
echo
python "$root/tools/studies/tell_search.py" runs/demo/eval/unknown/submission.json \
    --truth data/raw/blackbox.points.json --key data/raw/blackbox.masterkey --report runs/demo/report.html
