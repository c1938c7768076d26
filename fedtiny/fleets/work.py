"""Which clients are handed out next: longest first, in portions that are worth a message, each tried again once."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from fedtiny.payload.messages import Reply

__all__ = ["Times", "Work", "retold"]

PORTION_S = 0.3
"""Work that one message to an actor should bring: a message costs some 4 ms of CPU time, most of it Ray's."""

SHORT_S = 0.1
"""Clients that take longer go out one at a time, when a place is free: the message is little beside them."""


@dataclass(slots=True)
class Times:
    """How long clients take, as far as it was seen.

    Attributes:
        examples: Client -> its examples: until it is measured, a client takes as long for each as the others did.
    """

    examples: Mapping[int, int]
    _seconds: dict[tuple[int, bool], float] = field(default_factory=dict)
    _rates: dict[bool, float] = field(default_factory=dict)

    def saw(self, client: int, trains: bool, seconds: float) -> None:
        """Takes note of one client's work, training or measuring."""
        self._seconds[client, trains] = seconds
        self._rates[trains] = seconds / max(1, self.examples[client])

    def known(self, trains: bool) -> bool:
        """Whether any client was seen at such work."""
        return trains in self._rates

    def expected(self, client: int, trains: bool) -> float:
        """Seconds; in units that only order clients where none was seen yet."""
        guess = self._rates.get(trains, 1.0) * self.examples[client]
        return self._seconds.get((client, trains), guess)


class Work:
    """The clients of one order: who waits, and who has failed how often."""

    def __init__(
        self,
        clients: Iterable[int],
        times: Times,
        trains: bool,
        retries: int,
        hopeless: set[int],
        deadline_s: float | None,
    ) -> None:
        """Lines the clients up, longest first.

        Args:
            clients: Who is asked.
            times: What they took before; is told what they take now.
            trains: Whether the order trains or only measures.
            retries: Tries beyond the first.
            hopeless: Clients that failed for good the last time they were asked: they get one try, alone. Is kept up
                to date.
            deadline_s: Longest time of one client, so that a portion is well below it; None is no limit.
        """
        self._times, self._trains, self._retries, self._hopeless = times, trains, retries, hopeless
        line = sorted(clients, key=lambda client: (-times.expected(client, trains), client))
        self._line = deque(client for client in line if client not in hopeless)
        self._alone = deque(client for client in line if client in hopeless)
        self._suspects = set(self._alone)
        self._failures: Counter[int] = Counter()
        self._first: dict[int, Reply] = {}
        self._lost: dict[int, str] = {}
        self._target = PORTION_S if deadline_s is None else min(PORTION_S, deadline_s / 10)
        self.left = len(line)

    def portion(self, places: int) -> tuple[int, ...]:
        """The clients to hand to one of so many places next; empty if nobody waits."""
        if self._alone:
            return (self._alone.popleft(),)
        if not self._line:
            return ()
        taken = [self._line.popleft()]
        if not self._times.known(self._trains):
            return tuple(taken)  # Nobody knows yet what a client takes.
        most = len(self._line) // (2 * places)  # half a fair part: what is left evens out who was slower than expected
        seconds = self._times.expected(taken[0], self._trains)
        while len(taken) <= most and seconds < self._target:
            taken.append(self._line.popleft())
            seconds += self._times.expected(taken[-1], self._trains)
        return tuple(taken)

    def is_short(self) -> bool:
        """Whether portions are so short that a place should have the next at hand before it is done with one.

        Not while anybody is suspected: who is tried alone has nobody waiting behind, or the blame would be unclear.
        """
        if self._suspects or not self._line or not self._times.known(self._trains):
            return False
        return self._times.expected(self._line[0], self._trains) < SHORT_S

    def put_back(self, clients: Iterable[int], alone: bool = False, lost: str = "") -> None:
        """Has clients wait again that nobody blames; `alone` if one of them may be why their place is gone: `lost`."""
        again = tuple(clients)
        self._lost.update(dict.fromkeys(again, lost) if lost else {})
        (self._alone if alone else self._line).extendleft(reversed(again))
        if alone:
            self._suspects.update(again)

    def done(self, reply: Reply) -> Reply:
        """Takes note of an answer."""
        self._times.saw(reply.client, self._trains, reply.seconds)
        self._hopeless.discard(reply.client)
        self._suspects.discard(reply.client)
        self.left -= 1
        told = retold(reply, self._first.get(reply.client), self._failures[reply.client] + 1)
        lost = self._lost.get(reply.client, "")
        return replace(told, lost=lost) if lost else told

    def failed(self, reply: Reply) -> Reply | None:
        """Has the client wait for another try; or, after the last, gives what to say of it."""
        self._failures[reply.client] += 1
        tries = self._failures[reply.client]
        first = self._first.setdefault(reply.client, reply)
        if tries <= self._retries and reply.client not in self._hopeless:
            self._alone.append(reply.client)
            self._suspects.add(reply.client)
            return None
        self._hopeless.add(reply.client)
        self._suspects.discard(reply.client)
        self.left -= 1
        return retold(reply, first, tries)


def retold(last: Reply, first: Reply | None, tries: int) -> Reply:
    """The last of so many replies of a client, with what the first had to say if that failed."""
    if first is None or tries == 1:
        return last
    reason = first.failure
    if last.buffer is None:
        again = "" if first.failure == last.failure else f"; in the end {last.failure}"
        reason = f"{reason}{again} (tried {tries} times)"
    return replace(last, failure=reason, traceback=first.traceback or last.traceback, tries=tries)
