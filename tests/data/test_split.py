import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtiny.data.datasets import Digits
from fedtiny.data.partition import Dirichlet, Iid
from fedtiny.data.split import Split

LABELS = np.random.default_rng(0).integers(0, 10, 500)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 120), st.integers(0, 120), st.integers(0, 99))
def test_public_validation_and_clients_are_disjoint_and_complete(public: int, validation: int, seed: int) -> None:
    shares = Split(public=public, validation=validation).deal(LABELS, Iid(), 4, seed)
    assert (len(shares.public), len(shares.validation)) == (public, validation)
    everything = np.concatenate([shares.public, shares.validation, *shares.clients])
    assert np.array_equal(np.sort(everything), np.arange(500))


def test_the_test_set_is_none_of_the_training_images() -> None:
    examples = Digits().load()
    training = {image.tobytes() for image in examples.images}
    assert not training & {image.tobytes() for image in examples.test_images}
    assert len(examples.images) + len(examples.test_images) == 1797


def test_public_examples_are_even_over_classes() -> None:
    shares = Split(public=50, validation=30).deal(LABELS, Iid(), 4, 0)
    assert np.bincount(LABELS[shares.public]).tolist() == [5] * 10
    assert np.bincount(LABELS[shares.validation]).tolist() == [3] * 10


def test_limit_takes_that_many_examples_in_all() -> None:
    shares = Split(public=10, validation=10, limit=100).deal(LABELS, Dirichlet(alpha=10), 4, 0)
    assert sum(len(part) for part in shares.clients) == 80


def test_nothing_left_for_the_clients_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must leave examples for the clients, but 300 \+ 200 are all of 500"):
        Split(public=300, validation=200).deal(LABELS, Iid(), 4, 0)
