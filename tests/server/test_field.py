"""Runs whose clients are devices in the field."""

import json
from pathlib import Path

import pytest

from fedtiny.__main__ import main
from fedtiny.config.load import ConfigError, load
from fedtiny.payload.fleet import ClientFailed
from fedtiny.prepare import prepare
from fedtiny.server.cohort import Population
from fedtiny.server.devices import DeviceClass, Devices
from fedtiny.track.results import number
from tests.conftest import SMOKE, Runner

# A quick phone for two clients, and a board for one, whose link alone takes a second for a kilobyte.
PHONE = "phone: {share: 2, speed: 10}"
BOARD = "board: {share: 1, speed: 0.01, upload_bytes_per_s: 1000, download_bytes_per_s: 1000}"
CLASSES = f"classes: {{{PHONE}, {BOARD}}}"


def test_who_is_too_slow_is_asked_but_not_waited_for(make_run: Runner) -> None:
    result = make_run(f"devices={{{CLASSES}, deadline_s: 0.5}}")
    (slow,) = {x.late for x in result.records}
    assert len(slow) == 1
    for record in result.records:
        assert set(record.clients) | set(record.late) == {0, 1, 2}
        assert record.simulated_seconds == 0.5  # the server waits for the board until then
        assert record.joules is not None
        assert record.joules > 0
    # The selection waits for everybody: kilobytes, at a second each.
    assert number(result.summary, "simulated_seconds") > 4 * 0.5 + 2
    # The rest of a round is that of a run without the board: who was late costs its download.
    alone = make_run(f"devices={{{CLASSES}, deadline_s: 0.5}}", folder="again")
    assert alone.summary["weights_sha256"] == result.summary["weights_sha256"]


def test_the_first_answers_are_taken(make_run: Runner) -> None:
    result = make_run(f"devices={{{CLASSES}, over_selection: 1.5}}", "cohort=2")
    assert {len(x.clients) for x in result.records} == {2}
    assert {len(x.surplus) for x in result.records} == {1}
    assert len({x.surplus for x in result.records}) == 1  # always the board
    assert all(x.simulated_seconds is not None and x.simulated_seconds < 0.5 for x in result.records)


def test_devices_that_are_seldom_there_take_turns(make_run: Runner) -> None:
    result = make_run("devices={classes: {sensor: {availability: 0.4}}}", "rounds=12")
    assert len({x.clients for x in result.records}) > 2
    assert all(x.clients for x in result.records)


def test_where_nobody_ever_can_take_part_the_run_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedtiny.server.cohort.LOOKS", 50)
    seldom = Devices(classes={"buoy": DeviceClass(availability=1e-9)})
    people = Population(seldom, ("buoy",) * 3, dict.fromkeys(range(3), 10), 0)
    says = r"no client could take part in round 3, however often the server looked \(50 times\); raise the availability"
    with pytest.raises(ClientFailed, match=says):
        people.asked(2, 2)


def test_without_devices_nothing_is_simulated_and_with_quick_ones_the_bits_are_the_same(make_run: Runner) -> None:
    plain, quick = make_run(), make_run("devices={classes: {phone: {}}}", folder="quick")
    assert plain.summary["simulated_seconds"] is None
    assert plain.summary["weights_sha256"] == quick.summary["weights_sha256"]


@pytest.mark.parametrize(
    ("devices", "told"),
    [
        (
            "classes: {tiny: {memory_bytes: 100000}}",
            "devices.classes.tiny.memory_bytes: must hold what training needs at batch 16, 1",
        ),
        ("classes: {tiny: {memory_bytes: 100}}", "no batch fits, 2 needs 28,768 bytes; lower method.density or"),
        ("classes: {tiny: {spede: 2}}", "devices.classes.tiny.spede: there is no such key; did you mean speed?"),
        ("classes: {tiny: {speed: 0}}", "devices.classes.tiny.speed: input should be greater than 0, got 0"),
    ],
)
def test_what_cannot_be_is_told_before_the_run(
    tmp_path: Path, devices: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(SMOKE), f"devices={{{devices}}}", f"out={tmp_path / 'out'}"]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_bytes_that_are_told_fit_and_one_less_does_not() -> None:
    def words(memory_bytes: int) -> list[str]:
        return [f"devices={{classes: {{tiny: {{memory_bytes: {memory_bytes}}}}}}}", "training.batch=2"]

    prepare(load([SMOKE], words(28_768)))
    with pytest.raises(ConfigError, match="28,768 bytes, got 28,767; no batch fits, 2 needs 28,768 bytes"):
        prepare(load([SMOKE], words(28_767)))


def test_a_deadline_that_nobody_meets_stops_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["run", str(SMOKE), f"devices={{{CLASSES}, deadline_s: 1.0e-6}}", f"out={out}"]) == 1
    told = capsys.readouterr().err
    assert "no client can answer in round 1 within devices.deadline_s (1e-06 s); raise it, or ask for less" in told


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("quorum=1.0", "2 of 3 answered in round 1, fewer than the quorum of 3: 1 too late for devices.deadline_s"),
        (
            "aggregation=median",
            "2 clients sent weights in round 1, but median so set needs 3; raise cohort, devices.over_selection or "
            "devices.deadline_s, or set aggregation=mean",
        ),
    ],
)
def test_who_is_late_is_missed_by_the_quorum_and_by_the_aggregation(
    tmp_path: Path, setting: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(SMOKE), f"devices={{{CLASSES}, deadline_s: 0.5}}", setting, f"out={tmp_path / 'out'}"]
    assert main(["run", *words]) == 1
    says, way_on = capsys.readouterr().err.splitlines()[-2:]
    assert says == told
    assert way_on.startswith("go on with: python -m fedtiny resume ")


def test_a_simulated_run_that_was_broken_off_goes_on_to_the_same_figures(tmp_path: Path) -> None:
    words = [str(SMOKE), f"devices={{{CLASSES}, deadline_s: 0.5}}", "cohort=2"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for out in (whole, broken):
        assert main(["run", *words, f"out={out}"]) == 0
    (broken / "summary.json").unlink()
    (broken / "checkpoints" / "000004.safetensors").unlink()
    assert main(["resume", str(broken)]) == 0
    a, b = (json.loads((out / "summary.json").read_text()) for out in (whole, broken))
    for key in ("weights_sha256", "simulated_seconds", "joules", "upload_bytes", "download_bytes", "selection_bytes"):
        assert a[key] == b[key]
