"""Classifiers for comparison, trained on the same events and features as the model."""
