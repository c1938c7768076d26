"""Names for everything a run can be made of."""
