# The experiments of a suite, a job each. Made by 'hepllm experiments run', which starts it as
#   snakemake --directory FOLDER --snakefile FOLDER/Snakefile --keep-going --nolock \
#       --rerun-incomplete --rerun-triggers mtime --cores N
# An experiment goes on where it was stopped, and leaves result.json or failure.json.
import json
from pathlib import Path

FOLDER = Path(workflow.basedir)
SUITE = json.loads((FOLDER / "experiments.json").read_text())


localrules:
    all,


rule all:
    input:
        [f"{place}/result.json" for place in SUITE["needs"]],


rule experiment:
    input:
        "{place}/experiment.json",
        lambda wildcards: [f"{one}/result.json" for one in SUITE["needs"][wildcards.place]],
    output:
        "{place}/result.json",
    threads: SUITE["threads"]
    resources:
        **SUITE["resources"],
    params:
        started_in=SUITE["started_in"],
        python=SUITE["python"],
        folder=FOLDER,
    shell:
        "cd {params.started_in:q} && "
        "{params.python:q} -m hepllm experiments one {params.folder:q}/{wildcards.place:q}"
