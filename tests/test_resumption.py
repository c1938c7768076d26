"""What is in a run's folder decides whether the run goes on, where, and with which settings."""

import shutil
from pathlib import Path

import pytest

from fedtiny.__main__ import main
from fedtiny.config.load import ConfigError, load
from fedtiny.resumption import resumption
from tests.conftest import SMOKE


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rounds of a run that was to have more."""
    out = tmp_path_factory.mktemp("made") / "out"
    assert main(["run", str(SMOKE), "rounds=3", "engine=dense", f"out={out}"]) == 0
    return out


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """Its folder, to be spoilt."""
    return shutil.copytree(made, tmp_path / "run")


@pytest.mark.parametrize(
    "change",
    [
        "name=other",
        "quorum=1.0",
        "evaluate_every=2",
        "fleet={name: ray, actors: 7}",
        "fleet.retries=3",
        "tracking.wandb=offline",
        "tracking.project=other",
        "rounds=3",
        "rounds=9",
        "from_round={3: {training: {lr: 0.5}}}",
        "from_round={4: {method: {adjust_every: 7}}}",
    ],
)
def test_what_made_rounds_do_not_depend_on_may_change(made: Path, change: str) -> None:
    found, records = resumption(made, load([made / "config.yaml"], ["rounds=5", change]))
    assert found is not None
    assert found.state.round == len(records) == 3


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (["seed=1"], "seed"),
        (["clients=4"], "clients"),
        (["cohort=2"], "cohort"),
        (["method.density=0.1"], "method.density"),
        (["training.lr=0.1", "training.batch=8"], "training.batch, training.lr"),
        (["pretraining.epochs=5"], "pretraining.epochs"),
        (["data.noise=50"], "data.noise"),
        (["split.public=30"], "split.public"),
        (["aggregation=median"], "aggregation.name"),
        (["engine.dense_above={stem.weight: 0.5}"], "engine.dense_above, engine.dense_above.stem.weight"),
        (["rounds=2"], "rounds"),
        (["training.lr_schedule=cosine", "rounds=4"], "rounds, training.lr_schedule"),
        (["name=other", "seed=1"], "seed"),
        (["from_round={2: {training: {lr: 0.5}}}"], "from_round, from_round.2.method, from_round.2.training.lr"),
    ],
)
def test_what_made_rounds_depend_on_may_not_and_is_named(made: Path, changed: list[str], named: str) -> None:
    with pytest.raises(ConfigError) as refused:
        resumption(made, load([made / "config.yaml"], changed))
    (told,) = refused.value.problems
    start = f"{made}: config.yaml was changed since round 3 ("
    assert told.startswith(start)
    assert told.endswith("); change it back, or make a run of its own of it")
    assert sorted(told[len(start) :].partition(")")[0].split(", ")) == named.split(", ")


LAST, BEFORE, RECORDS = "checkpoints/000003.safetensors", "checkpoints/000002.safetensors", "rounds.jsonl"
SHORT = "rounds.jsonl does not tell of the 3 rounds that were made"


def lines(folder: Path) -> list[bytes]:
    return (folder / RECORDS).read_bytes().splitlines(keepends=True)


def cut(folder: Path, *names: str) -> None:
    """Leaves the first half of the files."""
    for name in names:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])


def tell(folder: Path, *records: bytes) -> None:
    (folder / RECORDS).write_bytes(b"".join(records))


def lose(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def spoil(folder: Path, damage: str) -> None:
    first, second, third = lines(folder)
    match damage:
        case "nothing":
            pass
        case "a round told that no checkpoint knows":
            tell(folder, first, second, third, third.replace(b'"round": 2', b'"round": 3'))
        case "the same, torn":
            tell(folder, first, second, third, third[:50])
        case "the last checkpoint torn":
            cut(folder, LAST)
        case "the last checkpoint lost":
            lose(folder, LAST)
        case "both torn":
            cut(folder, LAST, BEFORE)
        case "both lost":
            lose(folder, LAST, BEFORE)
        case "both lost, one round told":
            lose(folder, LAST, BEFORE)
            tell(folder, first)
        case "one round told, its checkpoint torn":
            lose(folder, BEFORE)
            cut(folder, LAST)
            tell(folder, first)
        case "nothing there but the configuration":
            lose(folder, LAST, BEFORE, RECORDS)
            (folder / "checkpoints").rmdir()
        case "no records":
            lose(folder, RECORDS)
        case "a record too few":
            tell(folder, first, second)
        case "the last record torn":
            tell(folder, first, second, third[:50])
        case "a record twice":
            tell(folder, first, first, third)
        case "records of something else":
            tell(folder, b"[1]\n", b"{}\n", b"null\n")
        case "no text":
            tell(folder, b"\xff\xfe\n" * 3)
        case _:
            raise AssertionError(damage)


@pytest.mark.parametrize(
    ("damage", "goes_on"),
    [
        ("nothing", 3),
        ("a round told that no checkpoint knows", 3),
        ("the same, torn", 3),
        ("the last checkpoint torn", 2),
        ("the last checkpoint lost", 2),
        ("both torn", "3 rounds were made, but no checkpoint of them is there and whole"),
        ("both lost", "3 rounds were made, but no checkpoint of them is there and whole"),
        ("both lost, one round told", 0),
        ("one round told, its checkpoint torn", "1 rounds were made, but no checkpoint of them is there and whole"),
        ("nothing there but the configuration", 0),
        ("no records", SHORT),
        ("a record too few", SHORT),
        ("the last record torn", SHORT),
        ("a record twice", SHORT),
        ("records of something else", SHORT),
        ("no text", SHORT),
    ],
)
def test_damage_costs_a_round_or_is_told_but_is_never_gone_on_with(
    folder: Path, damage: str, goes_on: int | str
) -> None:
    spoil(folder, damage)
    config = load([folder / "config.yaml"])
    if isinstance(goes_on, str):
        with pytest.raises(ConfigError) as refused:
            resumption(folder, config)
        (told,) = refused.value.problems
        assert told == f"{folder}: {goes_on}; remove the folder, or make the run anew with another out=DIR"
    else:
        found, records = resumption(folder, config)
        assert (found.state.round if found else 0) == goes_on
        assert [record.round for record in records] == list(range(goes_on))
