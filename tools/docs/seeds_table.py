"""Prints spread.json files as Markdown tables, for docs/results/.

python tools/docs/seeds_table.py build/seeds/runs/demo-1/eval/*/spread.json
"""

from __future__ import annotations

from pathlib import Path

import click

from hepllm.errors import InputError
from hepllm.evaluation.seeds import SpreadRecord
from hepllm.report.markdown import as_markdown
from hepllm.report.seeds import seed_chapter


@click.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
def main(files: tuple[Path, ...]) -> None:
    """Prints the tables of the spread.json FILES as Markdown."""
    try:
        records = [
            SpreadRecord.read(file, "evaluate again with: hepllm eval RUN RUN ...")
            for file in files
        ]
    except InputError as error:
        raise click.ClickException(str(error)) from None
    for record in records:
        for table in seed_chapter(record).tables:
            click.echo(as_markdown(table))


if __name__ == "__main__":
    main()
