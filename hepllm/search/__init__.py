"""The search for a resonance in events without labels: spectrum, background fit, bump hunt."""
