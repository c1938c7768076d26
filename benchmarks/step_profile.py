"""Where the time of a sparse training step goes, beside the time that its memory traffic would take.

    python benchmarks/step_profile.py [--model resnet18] [--density 0.01] [--batch 64] [--steps 12]

Traffic: each activation is written and read by its convolution and by batch norm forward (4), read twice and written
once by batch norm backward (3), and read three times and written once by the convolution's two gradients (4).
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import median

import torch

from fedtiny.bench.machine import network_of
from fedtiny.bench.subject import Subject
from fedtiny.sparse.engine import functions
from fedtiny.sparse.engine.kernels import kernels
from fedtiny.sparse.engine.measure import Stepper, random_mask
from fedtiny.sparse.engine.timing import seconds_of, sites


class Clock:
    """Stands before the kernels and adds up their seconds."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def __getattr__(self, name: str) -> Callable[..., None]:
        kernel = getattr(kernels(torch.float32), name)

        def timed(*arguments: object) -> None:
            start = time.perf_counter()
            kernel(*arguments)
            self.seconds[name] += time.perf_counter() - start

        return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--density", type=float, default=0.01)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    given = parser.parse_args()
    torch.set_num_threads(1)
    network = network_of(Subject(model=given.model))
    mask = random_mask(network.prunable, given.density)
    stepper = Stepper(network.module, network.input_shape, given.batch, mask)
    for _ in range(5):
        stepper.train()
    clock, steps = Clock(), []
    setattr(functions, "kernels", lambda dtype: clock)  # noqa: B010 -- it is only for this script that it changes
    for _ in range(given.steps):
        start = time.perf_counter()
        stepper.train()
        steps.append(time.perf_counter() - start)
    whole = median(steps)
    for name, seconds in sorted(clock.seconds.items(), key=lambda item: -item[1]):
        print(f"{name:16} {1e3 * seconds / given.steps:7.1f} ms  {100 * seconds / sum(steps):4.0f} %")
    rest = sum(steps) - sum(clock.seconds.values())
    print(f"{'PyTorch, Python':16} {1e3 * rest / given.steps:7.1f} ms  {100 * rest / sum(steps):4.0f} %")
    print(f"{'a step (median)':16} {1e3 * whole:7.1f} ms")
    a, b = torch.ones(2**26), torch.ones(2**26)
    bandwidth = 2 * a.nbytes / seconds_of(lambda: b.copy_(a), 0.5)
    maps = 0
    for site in sites(network.module, network.input_shape, given.batch):
        height, width = site.shape.out((site.x.shape[2], site.x.shape[3]))
        maps += site.shape.outputs * height * width
    traffic = 11 * 4 * maps * given.batch
    print(f"traffic {traffic / 1e9:.2f} GB at {bandwidth / 1e9:.0f} GB/s (copy): {1e3 * traffic / bandwidth:.0f} ms")


if __name__ == "__main__":
    main()
