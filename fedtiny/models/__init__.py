"""Plain networks: no masks, no federation."""
