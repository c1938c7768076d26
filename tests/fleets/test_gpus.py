"""GPU shares: what fits, what is refused before the run, and, where there is a GPU, whole runs on it."""

from pathlib import Path

import pytest
import ray
import torch

from fedtiny.__main__ import main
from fedtiny.client.world import World
from fedtiny.config.load import ConfigError, load
from fedtiny.fleets import Inline, RayActors
from fedtiny.fleets.actor import ClientActor
from fedtiny.fleets.limits import actors_on_gpus
from fedtiny.fleets.pool import pooled
from fedtiny.fleets.ray import RayFleet
from fedtiny.forecast.foresee import bills
from fedtiny.prepare import prepare
from fedtiny.resumption import resumption
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.network import Network
from tests.conftest import SMOKE, Runner
from tests.fleets.test_fleets import order_for

with_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
dense = pytest.mark.parametrize("engine", [Engine(name="dense")], ids=["dense"])


@pytest.mark.parametrize(
    ("free", "gpus", "actors"),
    [
        (1, 0.25, 4),
        (1, 1, 1),
        (1, 0.1, 10),
        (2, 0.4, 4),  # two on each; what is left of both together is no GPU
        (1.5, 0.5, 3),
        (1.5, 0.75, 1),  # one is whole, as far as a sum tells
        (0.5, 1, 0),
        (8, 2, 4),
        (3, 2, 1),
        (0, 0.25, 0),
    ],
)
def test_a_share_is_of_one_gpu(free: float, gpus: float, actors: int) -> None:
    assert actors_on_gpus(free, gpus) == actors


@pytest.mark.parametrize("name", ["inline", "ray"])
@pytest.mark.parametrize(
    ("gpus", "told"),
    [
        ("-1", r"fleet\.gpus: .*greater than or equal to 0.*-1"),
        ("1.5", r"fleet\.gpus: .*must be a share of one GPU \(at most 1\), or a whole number of them.*1\.5"),
    ],
)
def test_no_such_share_is_told(name: str, gpus: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load([SMOKE], [f"fleet.name={name}", f"fleet.gpus={gpus}"])


def test_without_a_cuda_device_the_inline_fleet_is_refused_with_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["run", str(SMOKE), "fleet.gpus=1", f"out={tmp_path / 'out'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("config: fleet.gpus: must be 0 where PyTorch sees no CUDA device, got 1; set fleet.gpus=0")


@pytest.mark.ray
@without_gpu
def test_without_a_gpu_in_the_cluster_actors_are_refused_with_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(SMOKE), "fleet.name=ray", "fleet.gpus=0.25", f"out={tmp_path / 'out'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "config: fleet.gpus: 1 actors with 0.25 GPUs each must fit into those of the cluster, but 0 are free; lower "
        "fleet.actors or fleet.gpus, or set fleet.gpus=0"
    )


@pytest.mark.ray
@dense
def test_auto_counts_gpus_and_more_than_fit_are_refused(network: Network, world: World) -> None:
    ray.init(num_cpus=4, num_gpus=1, include_dashboard=False, log_to_driver=False)  # Ray believes it
    try:
        told = r"fleet\.gpus: 3 actors with 0\.5 GPUs each must fit .* but 1 are free"
        with pytest.raises(ValueError, match=told), RayActors(actors=3, gpus=0.5).open(world, 3, 3):
            pass
        with pytest.raises(ValueError, match=r"fleet\.gpus: 1 actors with 2 GPUs"), RayActors(gpus=2).open(world, 3, 3):
            pass
        with pytest.raises(ValueError, match=r"fleet\.gpus: a run with 2 GPUs"):
            list(pooled(print, ["a"], gpus=2))
        with RayActors(gpus=0.5).open(world, 3, 3) as fleet:
            assert isinstance(fleet, RayFleet)
            assert fleet.actors == 2
    finally:
        ray.shutdown()


@dense
def test_an_actor_whose_node_shows_it_no_gpu_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"must be 0 where PyTorch sees no CUDA device, got 0\.5"):
        ClientActor(world, 0.5)


def test_the_sparse_engine_is_refused_and_auto_is_dense() -> None:
    told = r"engine: the sparse engine computes on CPUs, and fleet\.gpus is above 0; set engine=auto or engine=dense"
    with pytest.raises(ConfigError, match=told):
        prepare(load([SMOKE], ["fleet.gpus=1", "engine=sparse"]))
    choice = prepare(load([SMOKE], ["fleet.gpus=1"])).choice
    assert (choice.engine.name, choice.reason) == ("dense", "dense: clients train on GPUs")


def test_a_run_of_a_cpu_is_not_gone_on_with_on_a_gpu(make_run: Runner, tmp_path: Path) -> None:
    make_run("engine=dense", "rounds=1")
    path = tmp_path / "run" / "config.yaml"
    assert resumption(path.parent, load([path], ["fleet.retries=2"]))[0] is not None
    with pytest.raises(ConfigError, match=r"config\.yaml was changed since round 1 \(fleet\.gpus\)"):
        resumption(path.parent, load([path], ["fleet.gpus=1"]))


def test_a_bill_says_that_its_seconds_are_a_cpus() -> None:
    (bill,) = bills([load([SMOKE], ["fleet.gpus=1"])])
    assert "its clients train on GPUs, and the seconds are those of this machine's CPUs" in bill.notes


@pytest.mark.gpu
@with_gpu
@pytest.mark.parametrize("method", ["fedtiny", "fedmef", "fedrts", "fedsgc", "grasp", "snip", "prunefl", "lotteryfl"])
def test_a_gpu_gives_the_same_bits_twice(make_run: Runner, method: str) -> None:
    words = ("rounds=3", "method={name: " + method + ", density: 0.05}", "fleet.gpus=1")
    first, second = (make_run(*words, folder=folder).summary["weights_sha256"] for folder in ("a", "b"))
    assert first == second


@pytest.mark.gpu
@with_gpu
def test_a_gpu_comes_to_what_the_cpu_comes_to(make_run: Runner) -> None:
    """Dense: no choice hangs on a last bit."""
    words = ("rounds=2", "method={name: dense}", "engine=dense")
    here, there = (make_run(*words, f"fleet.gpus={n}", folder=str(n)).state.weights for n in (0, 1))
    for name, weights in here.items():
        torch.testing.assert_close(there[name], weights, rtol=1e-2, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.ray
@with_gpu
@dense
def test_actors_that_share_a_gpu_give_the_bits_of_the_inline_fleet(network: Network, world: World) -> None:
    order = order_for(network)
    with Inline(gpus=1).open(world, 3, 3) as inline, RayActors(gpus=0.5, actors=2).open(world, 3, 3) as fleet:
        alone = {reply.client: reply.buffer for reply in inline.send(order, range(3))}
        shared = {reply.client: bytes(reply.buffer or b"") for reply in fleet.send(order, range(3))}
    assert shared == alone
