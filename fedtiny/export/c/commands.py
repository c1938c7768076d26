"""Runs a compiler; what it refuses is one line."""

import shlex
import subprocess
from collections.abc import Sequence

__all__ = ["output_of"]


def output_of(command: Sequence[str]) -> str:
    """What the command prints.

    Raises:
        ValueError: It fails; the first line that names an error, else the first line, says why.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        why = next((line for line in lines if "error" in line), lines[0])
        raise ValueError(f"{shlex.join(command)} failed: {why}")
    return done.stdout
