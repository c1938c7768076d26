"""What goes wrong in the field and in clusters: the result is the same, or says what it lacks."""

import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from ray import cloudpickle

from fedtiny.client.world import World
from fedtiny.fleets import Inline, RayActors
from fedtiny.fleets.ray import RayFleet
from fedtiny.payload.fleet import ClientFailed, Fleet
from fedtiny.payload.messages import Order, Reply
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.network import Network
from tests.fleets import trouble
from tests.fleets.test_fleets import answers, order_for
from tests.fleets.trouble import Kind, in_trouble

cloudpickle.register_pickle_by_value(trouble)
DENSE = Engine(name="dense")
DEADLINE_S = 12.0
"""Above what a first fit takes on a machine that others load: nobody innocent is to be blamed."""
pytestmark = [pytest.mark.ray, pytest.mark.parametrize("engine", [DENSE], ids=["dense"])]


@pytest.fixture(scope="module")
def shared_ray() -> Iterator[None]:
    """One Ray for the tests of this file, so that each need not wait for its own."""
    with RayActors(actors=4).booting():
        yield


@pytest.fixture
def clean(network: Network, world: World) -> dict[int, bytes | None]:
    """What clients answer when nothing goes wrong."""
    with Inline().open(world, 3, 3) as fleet:
        return answers(fleet, order_for(network), range(3))


def replies(fleet: Fleet, order: Order, clients: Sequence[int]) -> dict[int, Reply]:
    return {reply.client: reply for reply in fleet.send(order, clients)}


@pytest.mark.parametrize("actors", [pytest.param(1, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize("kind", ["raise", "die", "hang", "memory"])
@pytest.mark.usefixtures("shared_ray")
def test_a_client_in_trouble_once_is_tried_again_elsewhere_with_the_same_bits(
    network: Network,
    world: World,
    clean: dict[int, bytes | None],
    kind: Kind,
    actors: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """kill_actor_mid_client, client_raises, client_hangs, oom_in_actor."""
    broken = in_trouble(world, 1, kind, 1, tmp_path / "diary")
    limit = DEADLINE_S if kind == "hang" else None
    with caplog.at_level(logging.WARNING), RayActors(actors=actors, deadline_s=limit).open(broken, 3, 3) as fleet:
        told = replies(fleet, order_for(network), range(3))
        assert {client: reply.buffer for client, reply in told.items()} == clean
        # The second try worked, and yet what became of the first is told.
        # Not where others were with it in a process that died or hung: it is tried again alone, and nobody is blamed.
        blamed = kind not in ("die", "hang") or told[1].tries == 2
        assert {client: reply.tries for client, reply in told.items()} == {0: 1, 1: 1 + blamed, 2: 1}
        assert ("in __getitem__" in told[1].traceback) == (kind in ("raise", "memory"))
        assert [bool(told[client].failure) for client in range(3)] == [False, blamed, False]
        assert isinstance(fleet, RayFleet)
        shrinks = kind == "memory" and actors == 2
        assert caplog.messages == (["the fleet goes on with 1 of its actors: memory was short"] if shrinks else [])
        # Where memory was short, fewer take their turns from now on; all other places are taken again.
        assert fleet.actors == (1 if kind == "memory" else actors)
        assert answers(fleet, order_for(network), range(3)) == clean
    assert "raylet" not in "".join(capfd.readouterr())
    (first,) = (tmp_path / "diary").iterdir()
    assert int(first.read_text()) != os.getpid()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("raise", "raised LookupError: the disk of this device is broken (tried 2 times)"),
        ("die", "lost its actor (pid "),
        ("hang", "did not answer within 12 s (tried 2 times)"),
    ],
)
@pytest.mark.usefixtures("shared_ray")
def test_a_client_in_trouble_for_good_is_given_up_with_its_reason_and_nobody_else_is(
    network: Network, world: World, clean: dict[int, bytes | None], kind: Kind, reason: str, tmp_path: Path
) -> None:
    """client_raises, client_hangs: dropped, with the reason in the reply."""
    diary = tmp_path / "diary"
    limit = DEADLINE_S if kind == "hang" else None
    with RayActors(actors=2, deadline_s=limit).open(in_trouble(world, 1, kind, 99, diary), 3, 3) as fleet:
        told = replies(fleet, order_for(network), range(3))
        assert {client: reply.buffer for client, reply in told.items()} == clean | {1: None}
        assert told[1].failure.startswith(reason)
        if kind == "die":
            assert re.search(r"pid \d+: Worker unexpectedly exits .*End of file\)", told[1].failure)
        assert ("in __getitem__" in told[1].traceback) == (kind == "raise")
        pids = [int(x.read_text()) for x in diary.iterdir()]
        # Two tries of its own; before them one that is not held against it, if others were with a process that died.
        assert len(pids) == 2 or (kind == "die" and len(pids) == 3)
        assert len(set(pids)) == len(pids)  # another process had each try
        # It has failed for good, so the next time it has one try, until it answers again.
        told = replies(fleet, order_for(network), range(3))
        assert "tried" not in told[1].failure
        assert len(list(diary.iterdir())) == len(pids) + 1


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_nobody_is_given_up_for_having_been_near_a_client_that_ends_its_process(
    network: Network, world: World, tmp_path: Path
) -> None:
    """kill_actor_mid_client, without a second try: whoever shared a process with client 5 is not to blame."""
    crowd = replace(world, shares={client: world.shares[client % 3][:8] for client in range(24)})
    with Inline().open(crowd, 24, 24) as inline:
        clean = answers(inline, order_for(network), range(24))
    broken = in_trouble(crowd, 5, "die", 99, tmp_path / "diary")
    with RayActors(actors=2, retries=0).open(broken, 24, 24) as fleet:
        for _ in range(3):
            assert answers(fleet, order_for(network), range(24)) == clean | {5: None}


@pytest.mark.usefixtures("shared_ray")
def test_a_fleet_does_not_give_up_while_an_actor_is_being_started(
    network: Network, world: World, clean: dict[int, bytes | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """client_hangs: for longer than a start may take; when it is over the last sign of life is long ago."""
    # An actor has to start within the time that is shortened here, on a machine that others load too.
    monkeypatch.setattr("fedtiny.fleets.ray.START_S", 1.5 * DEADLINE_S)
    broken = in_trouble(world, 1, "hang", 1, tmp_path / "diary")
    with RayActors(actors=1, deadline_s=1.6 * DEADLINE_S).open(broken, 3, 3) as fleet:
        assert answers(fleet, order_for(network), range(3)) == clean


@pytest.mark.usefixtures("shared_ray")
def test_actors_that_cannot_start_are_given_up_after_a_few_with_the_cause(
    network: Network, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedtiny.fleets.ray.PAUSE_S", 0.1)
    cause = r"^no actor can start, 4 died one after the other \(pid \d+: RuntimeError: .*negative.*\)$"
    with RayActors(actors=2).open(replace(world, channels=-1), 3, 3) as fleet, pytest.raises(ClientFailed, match=cause):
        list(fleet.send(order_for(network), range(3)))


@pytest.mark.usefixtures("shared_ray")
def test_a_slow_client_keeps_nobody_waiting(
    network: Network, world: World, clean: dict[int, bytes | None], tmp_path: Path
) -> None:
    """slow_client: it is handed out first, as it has the most data; the others are folded meanwhile."""
    with RayActors(actors=2).open(in_trouble(world, 0, "slow", 1, tmp_path / "diary"), 3, 3) as fleet:
        order = order_for(network)
        told = list(fleet.send(order, range(3)))
        assert [reply.client for reply in told] == [2, 1, 0]
        assert {reply.client: reply.buffer for reply in told} == clean
        # Now that it is known how long it takes, it goes first again; it is quick this time.
        assert answers(fleet, order, range(3)) == clean


@pytest.mark.usefixtures("shared_ray")
def test_whoever_stops_listening_disturbs_nobody(
    network: Network, world: World, clean: dict[int, bytes | None]
) -> None:
    """A driver that breaks off a round: what it had asked for is forgotten."""
    with RayActors(actors=2).open(world, 3, 3) as fleet:
        abandoned = fleet.send(order_for(network), range(3))
        next(abandoned)
        assert answers(fleet, order_for(network), range(3)) == clean


@pytest.mark.usefixtures("shared_ray")
def test_a_cluster_without_room_is_told_in_a_second_and_auto_fits_what_is_free(network: Network, world: World) -> None:
    """tune_pg_no_deadlock, for a fleet: an error within seconds, not a wait for room that never comes."""
    began = time.monotonic()
    wants = r"fleet\.actors: 9 with 1 CPUs each need 9, but 4 are free; lower fleet\.actors or fleet\.cpus"
    with pytest.raises(ValueError, match=wants), RayActors(actors=9).open(world, 3, 3):
        pass
    assert time.monotonic() - began < 30  # the list says 5; a loaded machine may take its time, a hang would not end
    with RayActors(actors=2).open(world, 3, 3) as first:
        list(first.send(order_for(network), [0]))
        with RayActors().open(world, 3, 3) as second:  # two CPUs are taken
            assert isinstance(second, RayFleet)
            assert second.actors == 2
    with RayActors(cpus=2).open(world, 100, 100) as third:
        assert isinstance(third, RayFleet)
        assert third.actors == 2
