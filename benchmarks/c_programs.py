"""Sizes and times of a pruned network as C: random weights at random places, its prunable layers at one density.

    python benchmarks/c_programs.py [--model resnet18] [--width 64] [--density 0.01] [--size 32] [--channels 3]

Prints a row for float32 and one for int8: flash and RAM in a Cortex-M4 (`-` without arm-none-eabi-gcc), the arena
alone, milliseconds a picture on one core of this machine (the least of five), and the same of PyTorch, dense.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from fedtiny.bench.machine import machine, network_of
from fedtiny.bench.subject import Subject
from fedtiny.export.c import compiled, cortex_m_size, write
from fedtiny.export.dead import without_dead
from fedtiny.export.trace import trace
from fedtiny.sparse.engine.measure import random_mask

PICTURES = 16


def milliseconds(call: Callable[[], object]) -> float:
    """For each of the pictures of one call."""
    call()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return 1e3 * min(seconds) / PICTURES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--width", type=int)
    parser.add_argument("--density", type=float, default=0.01)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--channels", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = network_of(Subject(**vars(given)))
    module, mask = network.module, random_mask(network.prunable, given.density)
    pictures = torch.rand(PICTURES, *network.input_shape)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name in network.prunable:
                parameter.mul_(mask.keep[name])
        module.train()
        for _ in range(20):  # batch norm's statistics
            module(pictures)
        module.eval()
        dense = milliseconds(lambda: [module(picture[None]) for picture in pictures])
    graph = without_dead(trace(module, network.input_shape, [0.0], [1.0]))
    images = pictures.numpy()
    print(machine())
    print("values   flash bytes  RAM bytes  arena bytes  ms here  PyTorch dense ms")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for values in ("float32", "int8"):
            program = write(graph, folder, values, "int8" if values == "int8" else "float32", images)
            call, sizes = compiled(program, folder), cortex_m_size(program)
            here = milliseconds(partial(call, images))
            flash, ram = ("-", "-") if sizes is None else (sizes.flash_bytes, sizes.ram_bytes)
            print(f"{values:8} {flash:>11}  {ram:>9}  {program.arena_bytes:>11}  {here:>7.2f}  {dense:>16.2f}")


if __name__ == "__main__":
    main()
