import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fedtiny.server.devices import DeviceClass, Devices, Task, memory_problems, play

PHONE = DeviceClass(
    share=2, speed=2, download_bytes_per_s=2e6, upload_bytes_per_s=1e6, compute_watts=4, radio_watts=1, availability=0.5
)
SENSOR = DeviceClass(
    speed=0.5,
    download_bytes_per_s=1e6,
    upload_bytes_per_s=0.5e6,
    compute_watts=0.5,
    radio_watts=0.5,
    memory_bytes=32_000_000,
)
DEVICES = Devices(classes={"phone": PHONE, "sensor": SENSOR})

# 2 MB down, 4 GFLOP, 1 MB up:
#   0, 1  phone   1 s down at 1 W, 2 s at 4 W,   1 s up at 1 W:     4 s, 10 J
#   2     sensor  2 s down at 0.5 W, 8 s at 0.5 W, 2 s up at 0.5 W: 12 s, 6 J
PHONE_TASK = DEVICES.task("phone", 2_000_000, 4e9, 1_000_000)
SENSOR_TASK = DEVICES.task("sensor", 2_000_000, 4e9, 1_000_000)
TASKS = {2: SENSOR_TASK, 0: PHONE_TASK, 1: PHONE_TASK}


def test_a_task_by_hand() -> None:
    for task, parts, seconds, joules in ((PHONE_TASK, (1, 2, 1), 4, 10), (SENSOR_TASK, (2, 8, 2), 12, 6)):
        assert (task.download_s, task.compute_s, task.upload_s) == parts
        assert (task.seconds, task.joules) == (seconds, joules)


@pytest.mark.parametrize(
    ("end", "joules"),
    [(0, 0), (0.5, 0.5), (1, 1), (2, 1 + 4), (3, 1 + 8), (3.5, 1 + 8 + 0.5), (4, 10), (9, 10)],
)
def test_energy_stops_at_the_end_of_the_round(end: float, joules: float) -> None:
    assert PHONE_TASK.joules_until(end) == joules


@pytest.mark.parametrize(
    ("wanted", "deadline_s", "accepted", "late", "surplus", "seconds", "joules"),
    [
        (3, None, (0, 1, 2), (), (), 12, 10 + 10 + 6),
        (3, 12.0, (0, 1, 2), (), (), 12, 10 + 10 + 6),  # in the very moment is in time
        (9, 99.0, (0, 1, 2), (), (), 12, 10 + 10 + 6),  # nobody is left to wait for
        (3, 9.0, (0, 1), (2,), (), 9, 10 + 10 + (1 + 3.5)),
        (3, 11.0, (0, 1), (2,), (), 11, 10 + 10 + (1 + 4 + 0.5)),
        (2, 3.0, (), (0, 1, 2), (), 3, 9 + 9 + (1 + 0.5)),
        (2, None, (0, 1), (), (2,), 4, 10 + 10 + (1 + 1)),
        (2, 9.0, (0, 1), (2,), (), 4, 10 + 10 + (1 + 1)),  # 2 would not have made it either way
        (1, None, (0,), (), (1, 2), 4, 10 + 10 + (1 + 1)),  # 0 and 1 tie
        (1, 9.0, (0,), (2,), (1,), 4, 10 + 10 + (1 + 1)),
    ],
)
def test_a_round_by_hand(
    wanted: int,
    deadline_s: float | None,
    accepted: tuple[int, ...],
    late: tuple[int, ...],
    surplus: tuple[int, ...],
    seconds: float,
    joules: float,
) -> None:
    outcome = play(TASKS, wanted, deadline_s)
    assert (outcome.accepted, outcome.late, outcome.surplus) == (accepted, late, surplus)
    assert (outcome.seconds, outcome.joules) == (seconds, joules)


@pytest.mark.parametrize("deadline_s", [None, 9.0])
def test_a_round_without_anybody_takes_no_time(deadline_s: float | None) -> None:
    outcome = play({}, 3, deadline_s)
    assert (outcome.accepted, outcome.late, outcome.surplus) == ((), (), ())
    assert (outcome.seconds, outcome.joules) == (0, 0)


# Few different times, so that ties are common.
TIMES = st.integers(0, 6).map(lambda x: x / 2)
SOME_TASKS = st.dictionaries(st.integers(0, 30), st.builds(Task, TIMES, TIMES, TIMES, TIMES, TIMES), max_size=12)
DEADLINES = st.none() | st.integers(1, 20).map(lambda x: x / 2)


@given(SOME_TASKS, st.integers(1, 12), DEADLINES)
def test_everyone_asked_is_in_one_place_and_nobody_waits_too_long(
    tasks: dict[int, Task], wanted: int, deadline_s: float | None
) -> None:
    outcome = play(tasks, wanted, deadline_s)
    assert sorted(outcome.accepted + outcome.late + outcome.surplus) == sorted(tasks)
    for clients in (outcome.accepted, outcome.late, outcome.surplus):
        assert list(clients) == sorted(clients)
    assert len(outcome.accepted) == min(wanted, len(tasks) - len(outcome.late))
    assert outcome.seconds <= max((task.seconds for task in tasks.values()), default=0)
    assert all(tasks[client].seconds <= outcome.seconds for client in outcome.accepted)
    assert all(tasks[client].seconds >= outcome.seconds for client in outcome.late + outcome.surplus)
    assert outcome.joules <= sum(task.joules for task in tasks.values()) + 1e-9
    if deadline_s is not None:
        assert outcome.seconds <= deadline_s
        assert outcome.seconds == deadline_s or len(outcome.accepted) == wanted or not outcome.late


@given(SOME_TASKS.filter(bool))
def test_without_deadline_or_over_selection_the_slowest_sets_the_time(tasks: dict[int, Task]) -> None:
    outcome = play(tasks, DEVICES.asked(len(tasks)), DEVICES.deadline_s)
    assert outcome.accepted == tuple(sorted(tasks))
    assert outcome.seconds == max(task.seconds for task in tasks.values())
    assert outcome.joules == pytest.approx(sum(task.joules for task in tasks.values()))


FACTORS = st.floats(1, 100)


@given(
    st.lists(st.tuples(st.integers(0, 10**8), st.floats(0, 1e12), st.integers(0, 10**8)), min_size=1, max_size=8),
    st.integers(1, 8),
    st.none() | st.floats(0.1, 1e3),
    st.tuples(FACTORS, FACTORS, FACTORS),
)
def test_a_faster_device_never_makes_a_round_longer(
    work: list[tuple[int, float, int]], wanted: int, deadline_s: float | None, faster: tuple[float, float, float]
) -> None:
    quick = DeviceClass(
        download_bytes_per_s=PHONE.download_bytes_per_s * faster[0],
        speed=PHONE.speed * faster[1],
        upload_bytes_per_s=PHONE.upload_bytes_per_s * faster[2],
    )
    before, after = (
        play({i: devices.task("phone", *part) for i, part in enumerate(work)}, wanted, deadline_s)
        for devices in (DEVICES, Devices(classes={"phone": quick}))
    )
    assert after.seconds <= before.seconds
    assert len(after.late) <= len(before.late)


def _counts(shares: dict[str, float], clients: int, seed: int = 0) -> dict[str, int]:
    devices = Devices(classes={name: DeviceClass(share=share) for name, share in shares.items()})
    kinds = devices.assign(clients, np.random.default_rng(seed))
    assert len(kinds) == clients
    return {name: kinds.count(name) for name in shares}


@pytest.mark.parametrize(
    ("shares", "clients", "counts"),
    [
        ({"a": 2, "b": 1}, 9, [6, 3]),
        ({"a": 2, "b": 1}, 10, [7, 3]),  # 6.67 and 3.33
        ({"a": 2, "b": 1}, 1, [1, 0]),
        ({"a": 1, "b": 1, "c": 1}, 4, [2, 1, 1]),  # all tie
        ({"a": 0.3, "b": 0.1}, 10, [8, 2]),  # 7.5 and 2.5 tie, whatever floats make of 0.3 / 0.4
        ({"a": 0.1, "b": 0.2, "c": 0.7}, 10, [1, 2, 7]),
        ({"a": 1e-6, "b": 1}, 10, [0, 10]),
    ],
)
def test_proportions_by_hand(shares: dict[str, float], clients: int, counts: list[int]) -> None:
    assert list(_counts(shares, clients).values()) == counts


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(0, 300), st.integers(0, 9))
def test_proportions_are_exact_for_any_number_of_clients(shares: list[int], clients: int, seed: int) -> None:
    # Tenths are no binary fractions: the counts must be those of whole shares all the same.
    counts = list(_counts({str(i): share / 10 for i, share in enumerate(shares)}, clients, seed).values())
    floors = [clients * share // sum(shares) for share in shares]
    remainders = [clients * share % sum(shares) for share in shares]
    lucky = sorted(range(len(shares)), key=lambda i: (-remainders[i], i))[: clients - sum(floors)]
    assert counts == [floor + (i in lucky) for i, floor in enumerate(floors)]


def test_who_is_what_is_shuffled_and_the_same_for_the_same_stream() -> None:
    a, b, c = (DEVICES.assign(30, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert a == b != c
    assert sorted(a) == sorted(c) == ["phone"] * 20 + ["sensor"] * 10
    assert list(a) != sorted(a)


def test_who_is_available_depends_on_the_own_class_alone() -> None:
    draws = np.random.default_rng(5).random(200)
    phones = DEVICES.available(["phone"] * 200, np.random.default_rng(5))
    assert phones == [i for i in range(200) if draws[i] < 0.5]
    assert DEVICES.available(["sensor"] * 200, np.random.default_rng(5)) == list(range(200))
    mixed = DEVICES.available(["sensor"] * 100 + ["phone"] * 100, np.random.default_rng(5))
    assert mixed == [*range(100), *(i for i in phones if i >= 100)]


@pytest.mark.parametrize(
    ("over_selection", "wanted", "asked"),
    [(1.0, 10, 10), (1.1, 10, 11), (1.3, 10, 13), (1.3, 7, 10), (1.1, 1000, 1100), (1.01, 1, 2)],
)
def test_over_selection_asks_for_whole_clients(over_selection: float, wanted: int, asked: int) -> None:
    assert Devices(classes={"phone": PHONE}, over_selection=over_selection).asked(wanted) == asked


def _needed(batch: int) -> int:
    return 100 + 10 * batch


@pytest.mark.parametrize(
    ("memory_bytes", "batch", "way_out"),
    [
        (739, 64, "training.batch=63 would fit"),
        (260, 64, "training.batch=16 would fit"),
        (269, 64, "training.batch=16 would fit"),
        (120, 64, "training.batch=2 would fit"),
        (119, 64, "no batch fits, 2 needs 120 bytes; lower method.density or model.width"),
        (119, 2, "no batch fits, 2 needs 120 bytes; lower method.density or model.width"),
    ],
)
def test_too_little_memory_is_told_with_the_batch_that_fits(memory_bytes: int, batch: int, way_out: str) -> None:
    devices = Devices(classes={"big": PHONE, "small": DeviceClass(memory_bytes=memory_bytes)})
    assert memory_problems(devices, _needed, batch) == [
        f"devices.classes.small.memory_bytes: must hold what training needs at batch {batch}, "
        f"{_needed(batch):,} bytes, got {memory_bytes:,}; {way_out}"
    ]


def test_enough_memory_is_no_problem_and_large_numbers_can_be_read() -> None:
    assert memory_problems(DEVICES, lambda batch: 500_000 * batch, 64) == []
    assert memory_problems(DEVICES, lambda batch: 500_000 * batch, 65) == [
        "devices.classes.sensor.memory_bytes: must hold what training needs at batch 65, 32,500,000 bytes, "
        "got 32,000,000; training.batch=64 would fit"
    ]


def test_impossible_devices_are_refused() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        Devices(classes={})
    with pytest.raises(ValidationError, match="greater than 0"):
        DeviceClass(upload_bytes_per_s=0)
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        DeviceClass(availability=1.5)
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Devices(classes={"phone": PHONE}, over_selection=0.9)


def test_the_example_of_the_documentation_is_the_one_above() -> None:
    text = (Path(__file__).parents[2] / "docs" / "devices.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    shown = Devices.model_validate(yaml.safe_load(block)["devices"], strict=True)
    assert shown == DEVICES.model_copy(update={"deadline_s": 9.0, "over_selection": 1.3})
