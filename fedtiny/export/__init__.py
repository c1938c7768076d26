"""Tiny models leave the lab: a run's network as a file that runs elsewhere."""
