"""Sweeps: many runs over a space of settings, searched and stopped early by Ray Tune."""
