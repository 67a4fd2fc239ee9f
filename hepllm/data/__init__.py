"""Datasets on disk: reading, writing, unfinished work, views of their events."""
