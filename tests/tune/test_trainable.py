"""A trial as Ray Tune drives it, without Ray."""

from pathlib import Path

from fedtiny.config.load import load
from tests.conftest import SMOKE
from tune.folder import Folder
from tune.trainable import RunTrainable


def trial(folder: Folder, name: str, **more: object) -> RunTrainable:
    overrides = ["pretraining.epochs=0", "engine=dense", "method.candidates=1"]
    folder.add(name, {}, load([SMOKE], overrides))
    made = RunTrainable.__new__(RunTrainable)  # as in an actor of Ray, but for its logger
    made.setup({"sweep": str(folder.path), "trial": name, **more})
    return made


def test_a_trial_that_is_set_up_and_not_needed_touches_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    unused = trial(folder, "0000")
    unused.cleanup()
    assert [path.name for path in folder.trial("0000").iterdir()] == ["config.yaml"]


def test_a_member_s_run_ends_where_its_generation_does_and_goes_on_from_there(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    member = trial(folder, "0000", until=2)
    told = [member.step() for _ in range(2)]
    assert [(x["rounds"], x["done"]) for x in told] == [(1.0, False), (2.0, True)]
    assert folder.rounds("0000") == 2
    member.reset_config({"sweep": str(folder.path), "trial": "0000", "until": 4})
    told = [member.step() for _ in range(2)]
    assert [(x["rounds"], x["done"]) for x in told] == [(3.0, False), (4.0, True)]
    assert folder.finished("0000")
