"""The command line: parses options, loads the configuration, calls one stage, prints its result.

Commands import heavy libraries themselves, so that ``--help`` is fast.
"""

from __future__ import annotations

import os
import sys

import click

from hepllm import __version__
from hepllm.cli import configuration, data, explanations, installation, models, reports, search
from hepllm.errors import HepllmError, StoppedError
from hepllm.launcher import launched


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="hepllm")
@click.pass_context
def cli(context: click.Context) -> None:
    """Classify collider events with a language model that also sees exact numbers.

    The whole job, in an empty folder:

    \b
        hepllm simulate                # events          -> data/raw/   (or: hepllm fetch rnd bb1)
        hepllm preprocess              # jets, features  -> data/processed/<source>/
        hepllm train --balance 1:1     # LoRA + NFA      -> runs/<name>/, runs/latest
        hepllm eval --blackbox         # SIC, tables     -> runs/latest/eval/<set>/
    """  # noqa: D301 (click: \b means "do not wrap this paragraph")
    if launched().size > 1 and context.invoked_subcommand != models.train.name:
        raise click.UsageError(
            f"'{context.invoked_subcommand}' runs in one process; start only 'train' with torchrun"
        )


for _command in (
    data.simulate,
    data.fetch,
    data.preprocess,
    data.inspect,
    data.export,
    models.train,
    models.evaluate,
    models.predict,
    search.search,
    explanations.explain,
    configuration.config,
    installation.doctor,
    reports.report,
):
    cli.add_command(_command)


def _gpu_failure(error: RuntimeError) -> str | None:
    """The message for a GPU that failed; None for another error."""
    kind, (reason, *_) = type(error).__name__, [*str(error).splitlines(), ""]
    if kind == "OutOfMemoryError":  # torch's, which is not imported here
        return (
            "the GPU's memory is full: lower train.micro_batch_size (to train) or "
            "evaluation.batch_size (to score), or set train.memory_limit_gib to what is really "
            "free; continue a training with --resume"
        )
    if kind == "AcceleratorError" or reason.startswith("CUDA error"):
        return f"the GPU failed: {reason}; find the cause with 'hepllm doctor'"
    return None


def main() -> None:
    """Runs the command line; every known error becomes one line and an exit code."""
    # Threads that spin while they wait make training a hundred times slower as soon as another
    # process needs one of the cores. OpenMP reads this variable when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    place = launched()
    who = f"process {place.rank} of {place.size}: " if place.rank else ""
    try:
        cli(standalone_mode=False)
    except StoppedError as stop:
        click.echo(f"hepllm: {who}{stop}", err=True)
        sys.exit(stop.exit_code)
    except HepllmError as error:
        click.echo(f"hepllm: error: {who}{error}", err=True)
        sys.exit(error.exit_code)
    except RuntimeError as error:
        failure = _gpu_failure(error)
        if failure is None:
            raise
        click.echo(f"hepllm: error: {who}{failure}", err=True)
        sys.exit(1)
    except click.exceptions.Abort:
        click.echo("hepllm: interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
