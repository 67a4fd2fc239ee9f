"""``python -m hepllm`` is ``hepllm``, which ``torchrun -m hepllm`` needs."""

from __future__ import annotations

from hepllm.cli import main

if __name__ == "__main__":
    main()
