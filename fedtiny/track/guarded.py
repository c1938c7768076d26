"""Tracking that never decides whether a run lives: what it raises ends the tracking after one line, not the run."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from fedtiny.track.sinks import Sink

__all__ = ["Guarded", "never_fatal"]

P = ParamSpec("P")


class Guarded(Sink):
    """A sink that a run can do without.

    Attributes:
        label: What a person calls it.
        broken: True once it has raised; nothing is told to it any more.
    """

    label = "tracking"

    def __init__(self) -> None:
        """Whole, as yet."""
        self.broken = False


S = TypeVar("S", bound=Guarded)


def never_fatal(verb: Callable[Concatenate[S, P], None]) -> Callable[Concatenate[S, P], None]:
    """Turns whatever `verb` raises into one line on stderr, after which the sink is silent."""

    @wraps(verb)
    def guarded(sink: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if sink.broken:
            return
        try:
            verb(sink, *args, **kwargs)
        except Exception as error:
            sink.broken = True
            reason = " ".join(str(error).split())
            print(
                f"{sink.label}: tracking stops here, the run goes on ({type(error).__name__}: {reason})",
                file=sys.stderr,
            )

    return guarded
