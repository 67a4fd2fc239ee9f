"""hepllm: an event classifier that joins a language model with exact numbers."""

__version__ = "0.1.0"
