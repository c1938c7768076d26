"""The CPU engine: training, evaluation and selection whose work is proportional to the kept weights."""
