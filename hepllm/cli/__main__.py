"""``python -m hepllm.cli`` is ``hepllm``."""

from hepllm.cli import main

main()
