"""What Optuna is told, and who is stopped: without Ray and without a run."""

from pathlib import Path

from fedtiny.config.load import load
from tests.conftest import SMOKE
from tune.folder import Folder
from tune.request import Request, configured
from tune.stopping import remembering, stopper
from tune.study import Study
from tune.sweep import Scheduler, Sweep


def sweep(**more: object) -> Sweep:
    space = {"training.lr": {"uniform": [0.0, 1.0]}, "method.density": {"choice": [0.1, 0.2]}}
    return Sweep.model_validate({"space": space, "search": "optuna", "samples": 40, **more})


def test_a_study_comes_close_to_what_is_best_under_a_constraint() -> None:
    # Best by itself at a rate of 1, but no more than 0.5 is allowed.
    study = Study(sweep(constraints=["bytes <= 0.5"]), load([SMOKE]))
    rates = []
    for i in range(40):
        sample = study.ask(str(i))
        rate = sample["training.lr"]
        assert isinstance(rate, float)
        rates.append(rate)
        study.finished(str(i), {"validation_accuracy": rate, "bytes": rate})
    late = sorted(rates[20:])
    assert 0.35 < late[len(late) // 2] < 0.65


def test_a_study_that_is_told_again_what_it_knew_thinks_of_something_new() -> None:
    first, second = (Study(sweep(samples=9), load([SMOKE]), known) for known in (0, 4))
    samples = [first.ask(str(i)) for i in range(4)]
    for i, sample in enumerate(samples):
        second.remember(str(i), sample)
    second.finished("0", {"validation_accuracy": 0.5})
    second.stopped("1", {"validation_accuracy": 0.4, "rounds": 2.0})
    second.failed("2")
    assert second.ask("4") not in samples


def test_a_stopped_trial_says_nothing_of_several_objectives() -> None:
    aims = [{"figure": "validation_accuracy", "direction": "max"}, {"figure": "bytes", "direction": "min"}]
    study = Study(sweep(objectives=aims), load([SMOKE]))
    study.ask("0")
    study.stopped("0", {"validation_accuracy": 0.9, "bytes": 1.0, "rounds": 1.0})
    study.ask("1")
    study.finished("1", {"validation_accuracy": 0.9, "bytes": 1.0})


def test_a_trial_that_diverged_says_nothing() -> None:
    study = Study(sweep(), load([SMOKE]))
    study.ask("0")
    study.finished("0", {"bytes": 1.0})
    assert study.ask("1")


def test_a_scheduler_remembers_the_trials_of_an_earlier_process(tmp_path: Path) -> None:
    base = load([SMOKE])
    folder = Folder(tmp_path)
    folder.write(Request(sweep(), base))
    for name, accuracy in (("0000", 0.8), ("0001", 0.9), ("0002", 0.85)):
        folder.add(name, {"training.lr": 0.1}, configured(base, name, {"training.lr": 0.1}))
        for spent in (100.0, 200.0):
            folder.note_progress(name, {"rounds": spent / 100, "bytes": spent, "validation_accuracy": accuracy})
        folder.note_stop(name, "asha, after 2 rounds")

    class Live:
        trial_id = "live"

    for asked in ({"name": "asha", "reduction": 2}, {"name": "median"}):
        scheduler = Scheduler.model_validate({"on": "bytes", "grace": 100, **asked})
        for accuracy, decision in ((0.5, "STOP"), (0.95, "CONTINUE")):
            made = remembering(stopper(scheduler, sweep().objectives[0]), folder)
            live = Live()
            made.on_trial_add(None, live)  # type: ignore[arg-type]
            result = {"rounds": 1.0, "bytes": 100.0, "validation_accuracy": accuracy}
            assert made.on_trial_result(None, live, result) == decision  # type: ignore[arg-type]
