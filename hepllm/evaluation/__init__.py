"""Metrics with their uncertainty, classifiers to compare with, plots and the report."""
