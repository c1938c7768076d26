from dataclasses import dataclass

import pytest

from fedtiny.forecast.clock import Clock, makespan
from fedtiny.payload.probes import Look
from fedtiny.server.effort import Effort

# A dense step of 10 examples and 90 FLOPs each takes 9 s, a sparse one of 30 takes 3 s.
CLOCK = Clock(batch=10, dense_seconds=9.0, dense_flops=90.0, sparse_seconds=3.0, sparse_flops=30.0)


@dataclass(frozen=True)
class Given:
    forward: float = 10.0
    passes: int = 3
    epochs: float = 2.0
    always: float = 0.0
    once: float = 0.0

    def effort(self) -> Effort:
        both = {x: {"rigl": getattr(self, x), "fedrts": 0.0} for x in ("always", "once")}
        return Effort(
            epochs=self.epochs,
            look=Look(),
            before=0.0,
            batch=10,
            forward=self.forward,
            dense_forward=30.0,
            passes=self.passes,
            once=both["once"],
            always=both["always"],
            memory_bytes=0,
            activation_bytes=0,
        )


@pytest.mark.parametrize(
    ("given", "examples", "seconds"),
    [
        (Given(), 20, 2 * 20 * 0.3),  # two epochs of sparse steps
        (Given(forward=30.0), 20, 2 * 20 * 0.9),  # dense ones
        (Given(forward=20.0), 20, 2 * 20 * 0.6),  # half way between
        (Given(forward=5.0), 20, 2 * 20 * 0.3),  # below the sparse step nothing was measured
        (Given(always=60.0), 20, 2 * 20 * 0.9),  # dense gradients in every step
        (Given(once=30.0), 20, 2 * 20 * 0.3 + 10 * 0.3),  # in one step of ten examples
        (Given(once=30.0), 4, 2 * 4 * 0.3 + 4 * 0.3),  # which has no more examples than there are
        (Given(passes=1, epochs=0.5), 20, 0.5 * 20 * 0.1),  # a forward pass over half of them
    ],
)
def test_seconds_of_a_client_by_hand(given: Given, examples: int, seconds: float) -> None:
    assert CLOCK.client(given.effort(), examples) == pytest.approx(seconds)


def test_on_dense_kernels_every_step_takes_as_long() -> None:
    clock = Clock(batch=10, dense_seconds=9.0, dense_flops=90.0, sparse_seconds=9.0, sparse_flops=90.0)
    assert clock.client(Given().effort(), 20) == pytest.approx(2 * 20 * 0.9)


@pytest.mark.parametrize(("places", "seconds"), [(1, 15.0), (2, 8.0), (3, 5.0), (9, 5.0)])
def test_the_longest_work_goes_first_to_who_is_free(places: int, seconds: float) -> None:
    assert makespan([1.0, 2.0, 3.0, 4.0, 5.0], places) == seconds


def test_nobody_needs_no_time() -> None:
    assert makespan([], 2) == 0.0
