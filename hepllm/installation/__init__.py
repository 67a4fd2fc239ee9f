"""Checks of the machine and its software; each function answers one question in one line."""
