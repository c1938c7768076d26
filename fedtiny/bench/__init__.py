"""What the sparse engine saves on this machine: whole steps, and layer by layer."""
