"""What auto chooses, and that it stays chosen."""

import json
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fedtiny.models.zoo import ResNet8
from fedtiny.sparse.engine.choose import Engine, _crossover, choose, crossovers
from fedtiny.sparse.engine.measure import Cost, Stepper, measure, random_mask
from fedtiny.sparse.network import Network, Prunable


@pytest.fixture
def small() -> Network:
    return Network.of(ResNet8(width=8).build(1, 4, 0), (1, 8, 8), Prunable())


def cost(dense: float, sparse: float) -> Cost:
    return Cost(
        dense_seconds=dense,
        sparse_seconds=sparse,
        dense_spread=0,
        sparse_spread=0,
        dense_bytes=10,
        sparse_bytes=1,
        dense_peak_bytes=20,
        sparse_peak_bytes=11,
    )


def test_what_is_asked_for_is_done(small: Network) -> None:
    told: list[str] = []
    assert choose(Engine(name="dense"), small, 16, 0.01, told.append).engine.name == "dense"
    assert choose(Engine(), small, 16, 1.0, told.append).reason == "dense: nothing is pruned"
    assert told == []
    chosen = choose(Engine(name="sparse"), small, 16, 0.01, told.append)
    assert chosen.engine == Engine(name="sparse")
    assert len(chosen.layers) == len(small.layers)
    assert len(told) == 1


def test_a_choice_is_measured_once_a_machine(small: Network) -> None:
    told: list[str] = []
    first = choose(Engine(), small, 17, 0.02, told.append)
    second = choose(Engine(), small, 17, 0.02, told.append)
    third = choose(first.engine, small, 17, 0.02, told.append)  # as a run's own config.yaml names it
    assert first == second == third
    assert len(told) == 1
    choose(Engine(), small, 17, 0.03, told.append)
    assert len(told) == 2


@pytest.mark.parametrize(("batch", "dense", "sparse", "name"), [(18, 1.0, 2.0, "dense"), (22, 2.0, 1.0, "sparse")])
def test_auto_takes_what_was_measured_to_be_faster(
    small: Network, batch: int, dense: float, sparse: float, name: str
) -> None:
    """The measurement is written down by hand: whatever it says is believed."""
    choose(Engine(), small, batch, 0.02)
    folder = Path(os.environ["FEDTINY_CACHE"]) / "engine"
    *_, path, _ = sorted(folder.glob("choice-*.json"), key=lambda file: file.stat().st_mtime_ns)
    kept = json.loads(path.read_text())
    kept["cost"] = cost(dense, sparse).model_dump()
    path.write_text(json.dumps(kept))
    chosen = choose(Engine(), small, batch, 0.02)
    assert chosen.engine.name == name
    assert chosen.reason.startswith(name)


def test_crossovers_are_densities_of_every_layer(small: Network) -> None:
    found = crossovers(small.module, small.input_shape, 16)
    assert list(found) == [layer.name for layer in small.layers]
    assert all(0 <= density <= 1 for density in found.values())


def test_measured_memory_is_that_of_the_parameters(small: Network) -> None:
    """At the peak a dense step holds weights, gradients and momentum: 12 bytes a parameter, and little else."""
    mask = random_mask(small.prunable, 0.01)

    def make(sparse: bool, batch: int) -> Stepper:
        return Stepper(small.module, small.input_shape, batch, mask if sparse else None)

    found = measure(lambda n: make(False, n), lambda n: make(True, n), 16, Stepper.train, 0.01)
    assert 10 * small.parameters <= found.dense_bytes <= 20 * small.parameters
    assert found.sparse_bytes < found.dense_bytes
    assert found.sparse_peak_bytes < found.dense_peak_bytes


def test_random_masks_keep_the_same_share_and_are_always_the_same(small: Network) -> None:
    mask = random_mask(small.prunable, 0.1)
    assert mask.equals(random_mask(small.prunable, 0.1))
    for keep in mask.keep.values():
        assert int(keep.sum()) == round(0.1 * keep.numel())


def test_measuring_leaves_the_number_of_threads_as_it_was(small: Network) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        choose(Engine(), small, 19, 0.02)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("batch", "torn"), [(20, ""), (23, "{}"), (24, '{"dense_above": {}, "cost": {"dense_seconds": 1}}')]
)
def test_a_torn_or_foreign_choice_is_made_anew(small: Network, batch: int, torn: str) -> None:
    first = choose(Engine(), small, batch, 0.02)
    folder = Path(os.environ["FEDTINY_CACHE"]) / "engine"
    *_, path, _ = sorted(folder.glob("choice-*.json"), key=lambda file: file.stat().st_mtime_ns)
    path.write_text(torn)
    told: list[str] = []
    assert choose(Engine(), small, batch, 0.02, told.append).engine.name in ("sparse", "dense")
    assert len(told) == 1
    assert first.cost is not None


def test_rows_of_features_and_the_smallest_batch_are_measured() -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 16), nn.Linear(16 * 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.b(self.a(x[:, 0]).relu().flatten(1))
            return out

    network = Network.of(Rows(), (1, 8, 8), Prunable(first_layer=True))
    assert choose(Engine(name="sparse"), network, 2, 0.1).cost is not None


@pytest.mark.parametrize(
    ("dense", "low", "high", "expected"),
    [
        (1.0, 0.1, 1.0, 0.2),
        (0.55, 0.1, 1.0, 0.11),
        (0.05, 0.1, 1.0, 0.01),
        (9.0, 0.1, 1.0, 1.0),
        (0.01, 0.1, 1.0, 0.002),
        (0.0, 0.5, 1.0, 0.0),
        (2.0, 1.0, 1.0, 1.0),
        (0.5, 1.0, 1.0, 0.0),
    ],
)
def test_the_crossover_is_where_two_lines_meet(dense: float, low: float, high: float, expected: float) -> None:
    """Sparse times are known at densities 0.02 and 0.2."""
    assert _crossover(dense, low, high) == expected


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(small: Network) -> None:
    choose(Engine(), small, 21, 0.02)
    folder = Path(os.environ["FEDTINY_CACHE"]) / "engine"
    *_, path, _ = sorted(folder.glob("choice-*.json"), key=lambda file: file.stat().st_mtime_ns)
    path.unlink()
    path.with_suffix(".new").mkdir()  # in the way
    assert choose(Engine(), small, 21, 0.02).cost is not None
    assert not path.exists()
