"""Classifiers that a physicist would use instead, trained on the same events and features."""
