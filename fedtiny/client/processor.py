"""What a place computes with: a CPU, or a CUDA device, of which the same bits are asked run after run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["CPU", "away", "processor", "seeded"]

CPU = torch.device("cpu")


def processor(gpus: float) -> torch.device:
    """The device of a place with such a share of GPUs: the first that CUDA shows it, which in an actor is Ray's choice.

    Raises:
        ValueError: PyTorch sees no CUDA device.
    """
    if gpus == 0:
        return CPU
    if not torch.cuda.is_available():
        raise ValueError(
            f"fleet.gpus: must be 0 where PyTorch sees no CUDA device, got {gpus:g}; set fleet.gpus=0, or run where "
            f"there is one"
        )
    # Before the first product there: cuBLAS then sums in the same order each time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device("cuda", 0)


@contextmanager
def seeded(device: torch.device, number: int) -> Iterator[None]:
    """Meanwhile PyTorch's global generators draw what `number` says, and CUDA gives equal bits.

    What it was before is restored, so that nothing else of the process computes otherwise. Convolutions on CUDA are
    float32, not TF32: their results are to be near those of a CPU.
    """
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device.index] if on_cuda else []):
        torch.default_generator.manual_seed(number)
        if not on_cuda:
            yield
            return
        torch.cuda.manual_seed(number)
        before = torch.are_deterministic_algorithms_enabled()
        warns = torch.is_deterministic_algorithms_warn_only_enabled()
        torch.use_deterministic_algorithms(True)
        try:
            with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
                yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warns)


def away(tensor: Tensor) -> Tensor:
    """A copy on the CPU, which nothing that goes on there changes."""
    return tensor.to(CPU, copy=True)
