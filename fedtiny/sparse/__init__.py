"""Masks and scores: pure tensors that know neither clients nor rounds."""
