"""Numbers out: records, and the places they go to."""
