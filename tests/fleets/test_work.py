"""Who is handed out next."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny.client.world import World
from fedtiny.fleets import RayActors
from fedtiny.fleets.limits import usable_bytes, usable_cpus
from fedtiny.fleets.work import Times, Work
from fedtiny.payload.messages import Reply
from fedtiny.sparse.engine.choose import Engine


def work(times: Times, retries: int = 1, hopeless: set[int] | None = None, deadline_s: float | None = None) -> Work:
    return Work(times.examples, times, True, retries, set() if hopeless is None else hopeless, deadline_s)


def answer(client: int, seconds: float) -> Reply:
    return Reply(client, b"", {"train": seconds})


def test_longest_first_by_examples_then_by_measured_time() -> None:
    times = Times({0: 10, 1: 30, 2: 20})
    todo = work(times)
    assert [todo.portion(1) for _ in range(4)] == [(1,), (2,), (0,), ()]
    times.saw(0, True, 9.0)  # slower than its examples let one think
    times.saw(1, True, 3.0)
    times.saw(2, True, 2.0)
    todo = work(times)
    assert [todo.portion(1) for _ in range(3)] == [(0,), (1,), (2,)]


def test_short_clients_go_out_together_but_never_more_than_a_fair_part() -> None:
    times = Times(dict.fromkeys(range(100), 10))
    for client in range(100):
        times.saw(client, True, 0.03)
    todo = work(times)
    sizes = []
    while portion := todo.portion(2):
        sizes.append(len(portion))
    assert sizes[0] == 10  # three tenths of a second and no more
    assert sizes[6:9] == [10, 8, 6]  # of 40, 30 and 22, half a fair part
    assert sizes[-2:] == [1, 1]
    assert sum(sizes) == 100
    assert len(work(times, deadline_s=0.5).portion(2)) == 2  # well below what one client may take


def test_a_client_that_fails_goes_out_alone_once_more_and_then_is_given_up() -> None:
    hopeless: set[int] = set()
    times = Times({0: 10, 1: 10})
    todo = work(times, hopeless=hopeless)
    assert todo.portion(1) == (0,)
    assert todo.failed(Reply(0, None, failure="raised")) is None
    assert todo.portion(1) == (0,)
    last = todo.failed(Reply(0, None, failure="raised"))
    assert last is not None
    assert last.failure == "raised (tried 2 times)"
    assert (todo.left, hopeless) == (1, {0})
    again = work(times, hopeless=hopeless)  # the next order: one try, until it answers
    last = again.failed(Reply(0, None, failure="raised"))
    assert last is not None
    assert last.failure == "raised"
    work(times, hopeless=hopeless).done(answer(0, 1.0))
    assert hopeless == set()


def test_what_the_first_try_failed_of_is_told_whatever_comes_of_the_next() -> None:
    times = Times({0: 10, 1: 10})
    todo = work(times, retries=2)
    for client in (0, 1):
        todo.failed(Reply(client, None, failure="raised A", traceback="in a"))
    worked = todo.done(answer(0, 1.0))
    assert (worked.buffer, worked.failure, worked.traceback, worked.tries) == (b"", "raised A", "in a", 2)
    assert todo.failed(Reply(1, None, failure="hung")) is None
    last = todo.failed(Reply(1, None, failure="raised C", traceback="in c"))
    assert last is not None
    assert last.failure == "raised A; in the end raised C (tried 3 times)"
    assert (last.traceback, last.tries) == ("in a", 3)


def test_nobody_waits_behind_a_suspect_and_who_was_given_up_goes_alone() -> None:
    times = Times(dict.fromkeys(range(6), 10))
    for client in range(6):
        times.saw(client, True, 0.01)
    hopeless = {4}
    todo = work(times, hopeless=hopeless)
    assert not todo.is_short()
    assert todo.portion(1) == (4,)
    todo.done(answer(4, 0.01))
    assert todo.is_short()
    todo.put_back(todo.portion(1), alone=True)
    assert not todo.is_short()
    for client in (0, 1, 2):
        assert todo.portion(1) == (client,)
        todo.done(answer(client, 0.01))
    assert todo.is_short()


def test_whom_nobody_blames_waits_again_and_who_may_be_to_blame_goes_alone() -> None:
    times = Times(dict.fromkeys(range(4), 10))
    todo = work(times)
    first = [todo.portion(1) for _ in range(4)]
    assert first == [(0,), (1,), (2,), (3,)]
    todo.put_back((2, 3))
    todo.put_back((0, 1), alone=True)
    assert [todo.portion(1) for _ in range(5)] == [(0,), (1,), (2,), (3,), ()]


def test_what_became_of_a_place_with_several_in_hand_is_told_of_each_whoever_is_to_blame() -> None:
    todo = work(Times({0: 10, 1: 10, 2: 10}), retries=0)
    todo.put_back((todo.portion(1)[0], todo.portion(1)[0]), alone=True, lost="or another lost its actor")
    assert [todo.done(answer(client, 1.0)).lost for client in (0, 2)] == ["or another lost its actor", ""]
    last = todo.failed(Reply(1, None, failure="lost its actor"))
    assert last is not None
    assert (last.failure, last.tries) == ("lost its actor", 1)


@given(st.lists(st.sampled_from(["done", "failed", "lost"]), max_size=60), st.integers(0, 2))
def test_whatever_happens_everybody_is_accounted_for_once(events: list[str], retries: int) -> None:
    todo = work(Times(dict.fromkeys(range(5), 10)), retries)
    ended = []
    for event in [*events, *["done"] * 20]:
        portion = todo.portion(2)
        if event == "lost":
            todo.put_back(portion, alone=True)
            continue
        for client in portion:
            reply = answer(client, 0.001) if event == "done" else Reply(client, None, failure="x")
            if (todo.done(reply) if event == "done" else todo.failed(reply)) is not None:
                ended.append(client)
    assert sorted(ended) == [0, 1, 2, 3, 4]
    assert todo.left == 0


def test_the_least_of_machine_cgroup_and_slurm_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_bytes(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 99 kB\nMemAvailable:    5000 kB\n")
    assert usable_bytes(tmp_path) == 5_120_000
    cgroup = tmp_path / "sys/fs/cgroup"
    cgroup.mkdir(parents=True)
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "memory.current").write_text("1000\n")
    assert usable_bytes(tmp_path) == 5_120_000
    (cgroup / "memory.max").write_text("4001000\n")
    assert usable_bytes(tmp_path) == 4_000_000
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "3")
    assert usable_bytes(tmp_path) == 3_000_000
    monkeypatch.setattr("fedtiny.fleets.limits.usable_cpus", lambda: 2)
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1")
    assert usable_bytes(tmp_path) == 2_000_000


@pytest.mark.parametrize(
    ("line", "folder", "names"),
    [
        ("0::/slurm/job_7/step_0", "", ("memory.max", "memory.current")),
        ("9:cpu,memory:/slurm/job_7/step_0", "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")),
    ],
)
def test_a_limit_of_any_cgroup_around_us_counts_and_cached_files_do_not(
    tmp_path: Path, line: str, folder: str, names: tuple[str, str]
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"1:pids:/elsewhere\n{line}\n")
    job = tmp_path / "sys/fs/cgroup" / folder / "slurm/job_7"
    (job / "step_0").mkdir(parents=True)
    (job / names[0]).write_text("9000\n")
    (job / names[1]).write_text("5000\n")
    assert usable_bytes(tmp_path) == 4000
    (job / "memory.stat").write_text("anon 4000\ninactive_file 1000\n")
    assert usable_bytes(tmp_path) == 5000


@pytest.mark.parametrize("engine", [Engine(name="dense")], ids=["dense"])
def test_more_actors_than_fit_are_refused_before_ray_starts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedtiny.fleets.limits.usable_bytes", lambda: 4_100_000_000)
    told = r"fleet\.actors: 500 need about 0\.8 GB of memory each, and what is free has room for 5; lower fleet\.actors"
    fleet = RayActors(actors=500)
    with fleet.booting(), pytest.raises(ValueError, match=told), fleet.open(world, 3, 3):
        pass


def test_slurms_cpus_count(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = usable_cpus()
    assert machine >= 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert usable_cpus() == 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1000")
    assert usable_cpus() == machine
