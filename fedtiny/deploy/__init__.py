"""A run's network leaves the lab: written in formats that others read, measured there, tried on pictures."""
