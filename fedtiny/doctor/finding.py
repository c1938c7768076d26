"""What a check found."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "State", "failure", "ok", "warning"]

State = Literal["ok", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: The thing, in a word or two.
        state: ok; warning: runs are slower, smaller or less watched; failure: there will be no run.
        text: What was found.
        mend: What to do about it; empty where nothing is wrong.
    """

    what: str
    state: State
    text: str
    mend: str = ""


def ok(what: str, text: str) -> Finding:
    """Nothing is wrong."""
    return Finding(what, "ok", text)


def warning(what: str, text: str, mend: str) -> Finding:
    """Runs are possible, but slower, smaller or less watched."""
    return Finding(what, "warning", text, mend)


def failure(what: str, text: str, mend: str) -> Finding:
    """No run is possible."""
    return Finding(what, "failure", text, mend)
