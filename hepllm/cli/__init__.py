"""The command line: parse, load the configuration, call one stage, print its result.

Heavy libraries load inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys

import click

from hepllm import __version__
from hepllm.cli import configuration, data, explanations, installation, models, reports
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
    """  # noqa: D301 (click takes the control character for "do not reflow")
    if launched().size > 1 and context.invoked_subcommand != models.train.name:
        raise click.UsageError(
            f"'{context.invoked_subcommand}' is one process: torchrun can start several of "
            "'train' only"
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
    explanations.explain,
    configuration.config,
    installation.doctor,
    reports.report,
):
    cli.add_command(_command)


def _gpu_trouble(error: RuntimeError) -> str | None:
    """What to say of a GPU that failed; None where the error is another."""
    kind, (reason, *_) = type(error).__name__, [*str(error).splitlines(), ""]
    if kind == "OutOfMemoryError":  # torch's, which is not loaded here
        return (
            "the GPU's memory is full: lower train.micro_batch_size (to train) or "
            "evaluation.batch_size (to score), or give train.memory_limit_gib what is really free; "
            "a training goes on with --resume"
        )
    if kind == "AcceleratorError" or reason.startswith("CUDA error"):
        return f"the GPU failed: {reason}; 'hepllm doctor' tells what is wrong with it"
    return None


def main() -> None:
    """Runs the command line; every known error becomes one line and an exit code."""
    # Threads that wait by spinning slow training down a hundredfold as soon as another process
    # wants one of the cores; OpenMP reads this when torch loads.
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
        msg = _gpu_trouble(error)
        if msg is None:
            raise
        click.echo(f"hepllm: error: {who}{msg}", err=True)
        sys.exit(1)
    except click.exceptions.Abort:
        click.echo("hepllm: interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
