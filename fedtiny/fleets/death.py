"""Why an actor is gone, and whether memory was short."""

import re

from ray.exceptions import OutOfMemoryError, RayError

__all__ = ["cause", "short_of_memory"]

_PID = re.compile(r"\bpid[:=] ?(\d+)")
_DETAIL = re.compile(r"Worker exit detail: (.+?)(?: Some common causes| There are some potential|\n|$)")
_RAISED = re.compile(r"^(?:\w+\.)*\w+(?:Error|Exception)\b.*", re.MULTILINE)
_WHY = re.compile(r"The actor is dead because (.+)")


def cause(error: RayError) -> str:
    """What Ray tells of an actor's end, in a line: the process, and how it ended.

    Ray's own text lists what such an end may come from, whatever it came from; none of that is kept.
    """
    text = re.sub(r"\x1b\[\d+m", "", str(error))
    if isinstance(error, OutOfMemoryError):
        return "Ray ended it, since memory was short"
    raised, pid = _RAISED.findall(text), _PID.search(text)
    found = _DETAIL.search(text) or _WHY.search(text)
    what = raised[-1] if raised and "creation task" in text else found.group(1) if found else text
    told = " ".join(what.split()).rstrip(".")[:300]
    return f"pid {pid.group(1)}: {told}" if pid else told


def short_of_memory(failure: str) -> bool:
    """Whether a client raised since memory was short: Python's error, or PyTorch's, which is a RuntimeError."""
    return "MemoryError" in failure or "allocate memory" in failure or "OutOfMemoryError" in failure
