"""Datasets on disk: reading, writing, unfinished work and views of their events."""
