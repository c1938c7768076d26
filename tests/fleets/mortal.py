"""A run that ends at a named moment, by kill -9: python -m tests.fleets.mortal MOMENT ROUND FOLDER KEY=VALUE...

All of it is real; it only looks on where a run lets others look on: at what its fleet is asked, and in a sink.
"""

import os
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, get_args

from fedtiny.client.world import World
from fedtiny.config.load import load
from fedtiny.fleets import Inline, RayActors
from fedtiny.payload.fleet import Fleet
from fedtiny.payload.messages import Order, Reply
from fedtiny.prepare import prepare
from fedtiny.run import run
from fedtiny.track.record import RoundRecord
from fedtiny.track.sinks import Sink
from tests.fleets.through import Through

__all__ = ["Moment"]

Moment = Literal["asked", "answered", "told", "saving"]
"""Before anybody is asked; when one has answered, and others have not; between a round's record and its checkpoint;
while the checkpoint is being written."""
SMOKE = Path(__file__).parents[2] / "configs" / "smoke.yaml"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Mortal(Through):
    """A fleet that sees what is asked, and what comes back."""

    moment: ClassVar[Moment]
    round: ClassVar[int]

    def send(self, order: Order, clients: Sequence[int]) -> Iterator[Reply]:
        now = order.round == self.round
        if now and self.moment == "asked":
            die()
        for reply in self.fleet.send(order, clients):
            yield reply
            if now and self.moment == "answered":
                die()


class MortalInline(Inline):
    @contextmanager
    def open(self, world: World, clients: int, cohort: int) -> Iterator[Fleet]:
        with super().open(world, clients, cohort) as fleet:
            yield Mortal(fleet)


class MortalRay(RayActors):
    @contextmanager
    def open(self, world: World, clients: int, cohort: int) -> Iterator[Fleet]:
        with super().open(world, clients, cohort) as fleet:
            yield Mortal(fleet)


class Looking(Sink):
    """Comes after the sink that writes records, and before the checkpoint."""

    def round(self, record: RoundRecord) -> None:
        if record.round == Mortal.round and Mortal.moment == "told":
            die()
        if record.round == Mortal.round and Mortal.moment == "saving":
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000))


def main(moment: str, round: str, folder: Path, words: Sequence[str]) -> None:
    (Mortal.moment,) = [known for known in get_args(Moment) if known == moment]
    Mortal.round = int(round)
    before = folder / "config.yaml"
    prepared = prepare(load([before if before.exists() else SMOKE], words))
    told = prepared.config.fleet
    kind: type[MortalInline | MortalRay] = MortalInline if told.name == "inline" else MortalRay
    fleet = kind.model_validate(told.model_dump())
    folder.mkdir(exist_ok=True)
    mortal = replace(prepared, config=prepared.config.model_copy(update={"fleet": fleet}))
    run(mortal, folder, [Looking()], resume=before.exists())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
