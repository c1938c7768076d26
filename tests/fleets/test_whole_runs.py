"""Whole runs on a real Ray, which they share: the same bits whoever computes, and a client whose numbers are none."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedtiny.client.world import World
from fedtiny.config.load import load
from fedtiny.fleets import AnyFleet, Inline, RayActors
from fedtiny.fleets.limits import actors_that_fit
from fedtiny.payload.fleet import Fleet
from fedtiny.prepare import prepare
from fedtiny.run import RunResult, run
from fedtiny.server.model_file import load_model
from fedtiny.track.record import RoundRecord
from fedtiny.track.sinks import Sink
from tests.conftest import SMOKE

CPUS = 0.25
"""Of an actor: eight of them on two CPUs."""
ROOM_FOR_EIGHT = pytest.mark.skipif(actors_that_fit() < 8, reason="eight actors need 6.4 GB of memory")
pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def _shared_ray() -> Iterator[None]:
    with RayActors(actors=2).booting():
        yield


class Telling(Sink):
    """Keeps what a person would be shown."""

    def __init__(self) -> None:
        self.troubles: list[str] = []

    def trouble(self, text: str) -> None:
        self.troubles.append(text)


def made(folder: Path, fleet: AnyFleet, *overrides: str, sinks: tuple[Sink, ...] = ()) -> RunResult:
    """A run of the smoke preset in that fleet."""
    prepared = prepare(load([SMOKE], ["engine=dense", *overrides]))
    folder.mkdir()
    return run(replace(prepared, config=prepared.config.model_copy(update={"fleet": fleet})), folder, sinks)


def told(result: RunResult) -> list[RoundRecord]:
    """The records, but for the clock."""
    return [replace(record, seconds=0.0) for record in result.records]


WORDS = ["rounds=2", "clients=8", "pretraining.epochs=1"]


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """What all of them are to come to."""
    return made(tmp_path_factory.mktemp("inline") / "run", Inline(), *WORDS)


@pytest.mark.parametrize("actors", [1, 2, 3, pytest.param(8, marks=[pytest.mark.slow, ROOM_FOR_EIGHT])])
def test_any_number_of_actors_comes_to_what_the_inline_fleet_does(
    tmp_path: Path, inline: RunResult, actors: int
) -> None:
    """workers_1_2_3_8_equal."""
    result = made(tmp_path / "run", RayActors(actors=actors, cpus=CPUS), *WORDS)
    assert result.summary["weights_sha256"] == inline.summary["weights_sha256"]
    assert told(result) == told(inline)


class WithABlindClient(RayActors):
    """Client 1 has a broken camera: its pixels are NaN, and so is all that it learns from them."""

    @contextmanager
    def open(self, world: World, clients: int, cohort: int) -> Iterator[Fleet]:
        images = world.images.astype(np.float32)
        images[world.shares[1]] = math.nan
        seen = replace(world, images=images)  # type: ignore[arg-type]  # no data set has such pictures
        with super().open(seen, clients, cohort) as fleet:
            yield fleet


class WithARaisingClient(Inline):
    """Client 1 has a class that does not exist: it raises, and never answers."""

    @contextmanager
    def open(self, world: World, clients: int, cohort: int) -> Iterator[Fleet]:
        labels = world.labels.copy()
        labels[world.shares[1]] = 99
        with super().open(replace(world, labels=labels), clients, cohort) as fleet:
            yield fleet


def test_a_client_that_returns_nan_is_refused_counted_told_and_comes_to_as_much_as_none(tmp_path: Path) -> None:
    """client_returns_nan."""
    words = ["rounds=3", "method.candidates=1"]
    telling = Telling()
    result = made(tmp_path / "blind", WithABlindClient(actors=2, cpus=CPUS), *words, sinks=(telling,))
    without = made(tmp_path / "raising", WithARaisingClient(retries=0), *words)
    for record in result.records:
        assert record.clients == (0, 1, 2)
        assert record.refused == 1
        (reason,) = record.dropped.values()
        assert list(record.dropped) == ["1"]
        assert reason.startswith("was refused: ")
        assert reason.endswith(" is not finite: it diverged; lower training.lr or pretraining.lr")
        assert record.train_loss < 10
    (trouble,) = telling.troubles
    assert trouble.startswith("client 1 was refused: ")
    assert (result.summary["refused"], result.summary["dropped"]) == (3, 3)
    assert (without.summary["refused"], without.summary["dropped"]) == (0, 3)
    weights, mask, _ = load_model(tmp_path / "blind" / "model.safetensors")
    assert mask is not None
    assert all(x.isfinite().all() for x in weights.values())
    assert result.summary["weights_sha256"] == without.summary["weights_sha256"]
