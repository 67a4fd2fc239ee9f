"""Memory and speed of ``hepllm predict`` on feature tables of two sizes.

python tools/bench/bench_predict.py build/demo/runs/demo build/demo/data/processed/rnd
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import clock, peak_pss

from hepllm.data.dataset import read_dataset

_GIB = 2**30


def _write_table(dataset: Path, n_rows: int, path: Path) -> None:
    """Feature rows of a dataset, drawn with replacement."""
    source = read_dataset(dataset)
    table = source.load(source.manifest.features)
    chosen = np.random.default_rng(1).integers(len(table), size=n_rows)
    columns = dict(zip(table.names, table.features[chosen].T, strict=True))
    pq.write_table(pa.table(columns), path)


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("dataset", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--rows", type=(int, int), default=(20_000, 100_000), show_default=True)
def main(run: Path, dataset: Path, rows: tuple[int, int]) -> None:
    """Scores rows drawn from a DATASET with a RUN, in two sizes, and compares the peak memory."""
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        for n_rows in rows:
            source, output = Path(name, f"{n_rows}.parquet"), Path(name, f"scores-{n_rows}.parquet")
            _write_table(dataset, n_rows, source)
            command = [sys.executable, "-m", "hepllm.cli", "predict", str(run), str(source)]
            command += ["--output", str(output), "-q"]
            timed = clock(lambda command=command: peaks.append(peak_pss(command)))
            made = pq.read_metadata(output).num_rows
            if made != n_rows:
                sys.exit(f"{n_rows} rows went in, {made} came out")
            click.echo(
                f"{n_rows} rows: peak memory {peaks[-1] / _GIB:.2f} GiB, "
                f"{n_rows / timed.seconds:.0f} rows/s, start-up included "
                f"(others took {timed.others:.1f} cores)"
            )
    click.echo(f"growth: {peaks[1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
