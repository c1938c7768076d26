import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtiny.data.partition import Dirichlet, Iid, Partition, Pathological, Shards

LABELS = np.random.default_rng(0).integers(0, 10, 600)


@pytest.mark.parametrize(
    ("partition", "dealt"),
    [(Iid(), 600), (Dirichlet(), 600), (Dirichlet(alpha=5), 600), (Shards(), 600 // 16 * 16), (Pathological(), None)],
)
def test_every_example_goes_to_one_client_at_most(partition: Partition, dealt: int | None) -> None:
    parts = partition.split(LABELS, 8, np.random.default_rng(1))
    together = np.concatenate(parts)
    assert len(parts) == 8
    assert len(np.unique(together)) == len(together) == (dealt or len(together))
    assert all(np.array_equal(part, np.sort(part)) for part in parts)
    assert min(len(part) for part in parts) >= partition.min_examples


@pytest.mark.parametrize("partition", [Iid(), Dirichlet(), Shards(), Pathological()])
def test_equal_streams_give_equal_parts(partition: Partition) -> None:
    a, b, c = (partition.split(LABELS, 5, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert not all(np.array_equal(x, y) for x, y in zip(a, c, strict=True))


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 12), st.floats(0.3, 100), st.integers(0, 999))
def test_dirichlet_holds_for_any_alpha(clients: int, alpha: float, seed: int) -> None:
    parts = Dirichlet(alpha=alpha, min_examples=2).split(LABELS, clients, np.random.default_rng(seed))
    assert sum(len(part) for part in parts) == 600
    assert len(np.unique(np.concatenate(parts))) == 600


def test_a_pathological_client_has_its_classes_only() -> None:
    parts = Pathological(classes=3).split(LABELS, 10, np.random.default_rng(0))
    assert all(len(np.unique(LABELS[part])) == 3 for part in parts)


def test_more_clients_than_examples_is_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match=r"100 clients with at least 10 examples each need 1000, but 600 are left"):
        Dirichlet().split(LABELS, 100, np.random.default_rng(0))


def test_a_deal_that_is_not_found_says_so() -> None:
    with pytest.raises(ValueError, match=r"no .*alpha=0.001.* deal of 600 examples to 30 clients was found"):
        Dirichlet(alpha=0.001).split(LABELS, 30, np.random.default_rng(0))


def test_parts_that_come_out_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a client would get .* examples, fewer than partition.min_examples"):
        Pathological(classes=1, min_examples=59).split(LABELS, 10, np.random.default_rng(0))
