"""What trials hold of machines that are made up."""

from pathlib import Path

from fedtiny.config.load import load
from fedtiny.fleets import Inline, RayActors
from tests.conftest import SMOKE
from tests.tune.test_space import preset
from tune.engine import reserving
from tune.folder import Folder
from tune.request import cohorts, configured, requested
from tune.reservation import Reservation, Room

FOUR = Room([{"CPU": 4.0}], processes=100)


def test_actors_that_nobody_counted_are_as_many_as_the_trial_has_clients_in_a_round_and_there_is_room_for() -> None:
    def actors(cohort: int, room: Room, fleet: RayActors) -> int:
        return len(Reservation.of(fleet, cohort, room).actors)

    auto = RayActors()
    assert [actors(cohort, FOUR, auto) for cohort in (1, 3, 10)] == [1, 3, 4]
    assert actors(10, FOUR, RayActors(cpus=1.5)) == 2
    assert actors(10, FOUR, RayActors(actors=2)) == 2
    assert actors(10, Room([{"CPU": 4.0}], processes=3), auto) == 2  # the driver is a process too
    assert actors(10, Room([{"CPU": 3.0}, {"CPU": 3.0}]), RayActors(cpus=2.0)) == 2  # none lies across two nodes
    assert actors(10, Room([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0}]), RayActors(gpus=0.25)) == 4


def test_what_there_is_room_for_is_not_refused() -> None:
    for processes in (1, 2, 3, 10):
        room = Room([{"CPU": 4.0}], processes)
        reservation = Reservation.of(RayActors(), 10, room)
        assert reservation.lacking(room) == ""
        assert reservation.at_once(room) >= 1
    assert Reservation.of(Inline(), 10, FOUR).at_once(FOUR) == 4
    assert Reservation.of(RayActors(actors=2), 10, FOUR).at_once(FOUR) == 2


def test_cohorts_are_those_of_all_trials(tmp_path: Path) -> None:
    def found(**sweep: object) -> frozenset[int]:
        request = requested([preset(tmp_path, **sweep), SMOKE])
        return cohorts(request.sweep, request.base)

    assert found(space={"seed": [0, 1]}) == {load([SMOKE]).clients}
    assert found(space={"clients": [1, 2], "cohort": [None, 1]}) == {1, 2}
    assert found(space={"clients": {"randint": [1, 3]}}, search="optuna", samples=5) == {1, 3}


def test_tune_reserves_for_a_trial_what_its_own_configuration_asks_for(tmp_path: Path) -> None:
    folder, base = Folder(tmp_path), load([SMOKE], ["fleet={name: ray, actors: auto}"])
    for name, clients in (("0000", 3), ("0001", 1)):
        folder.add(name, {"clients": clients}, configured(base, name, {"clients": clients}))
    reserved = reserving(folder, FOUR)
    assert [len(reserved({"trial": name}).bundles) for name in ("0000", "0001")] == [3, 1]  # Tune drops the driver's 0
