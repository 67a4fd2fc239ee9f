"""The command line: parses options, loads the configuration, calls one stage, prints its result.

Commands import heavy libraries themselves, so that ``--help`` is fast.
"""

from __future__ import annotations

import logging
import sys

import click

from hepllm import __version__
from hepllm.cli import (
    cartography,
    configuration,
    data,
    ensembles,
    experiments,
    explanations,
    installation,
    labels,
    reports,
    scoring,
    search,
    training,
)
from hepllm.cli.process import StoppableGroup, describe, end, flush_output, open_streams
from hepllm.errors import HepllmError, StoppedError
from hepllm.launcher import launched

LOG = logging.getLogger(__name__)


@click.group(
    cls=StoppableGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
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
    if launched().size > 1 and context.invoked_subcommand != training.train.name:
        raise click.UsageError(
            f"'{context.invoked_subcommand}' runs in one process; start only 'train' with torchrun"
        )


for _command in (
    data.simulate,
    data.fetch,
    data.preprocess,
    data.inspect,
    data.export,
    training.train,
    scoring.evaluate,
    scoring.predict,
    ensembles.ensemble,
    search.search,
    labels.label,
    explanations.explain,
    cartography.map_events,
    cartography.flag,
    cartography.embed,
    cartography.audit,
    experiments.experiments,
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
            "evaluation.batch_size (to score or explain), or set train.memory_limit_gib to what is "
            "really free; where gaps waste memory, start with "
            "PYTORCH_ALLOC_CONF=expandable_segments:True in the environment; continue a training "
            "with --resume"
        )
    if kind == "AcceleratorError" or reason.startswith("CUDA error"):
        return f"the GPU failed: {reason}; find the cause with 'hepllm doctor'"
    return None


def main() -> None:
    """Runs the command line; every known error becomes one line and an exit code."""
    open_streams()
    place = launched()
    who = f"process {place.rank} of {place.size}: " if place.rank else ""
    try:
        cli(standalone_mode=False)
        sys.stdout.flush()
    except StoppedError as stop:
        end(f"{who}{stop}", stop.exit_code)
    except HepllmError as error:
        end(f"error: {who}{error}", error.exit_code)
    except (KeyboardInterrupt, click.exceptions.Abort):  # before the command began
        end("interrupted", 130)
    except BrokenPipeError:  # the reader of the output has what it wanted, such as 'head'
        flush_output()
        sys.exit(1)
    except OSError as error:
        LOG.debug("the operating system refused", exc_info=True)
        end(f"error: {who}{describe(error)}", 1)
    except RuntimeError as error:
        failure = _gpu_failure(error)
        if failure is None:
            raise
        end(f"error: {who}{failure}", 1)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
