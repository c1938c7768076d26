"""What a run needs of a machine, or of a cluster, looked at before the run does: what is there, and what to mend."""
