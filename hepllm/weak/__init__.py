"""Learning from data without labels: templates of the background, folds, and their hunt."""
