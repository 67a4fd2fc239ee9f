"""``python -m hepllm`` is ``hepllm``, which ``torchrun -m hepllm`` needs."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line; Ctrl-C while its modules are still imported is one line, too."""
    try:
        from hepllm.cli import main as run_command  # noqa: PLC0415 (so that it can be caught)
    except KeyboardInterrupt:
        sys.stderr.write("hepllm: interrupted\n")
        sys.exit(130)
    run_command()


if __name__ == "__main__":
    main()
