"""Encoders of an event's inputs, each of which gives the language model soft tokens."""
