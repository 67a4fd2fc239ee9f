"""Hypotheses in words: what a signal Z' -> X Y would look like, as a physicist writes it."""
