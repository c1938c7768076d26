"""What a run will cost, without training: `python -m fedtiny cost`."""
