"""Where a place computes: a device that is not the CPU, and what CUDA is asked for."""

import os
import subprocess
import sys

import pytest
import torch

from fedtiny.client.processor import CPU, processor, seeded
from tests.test_cli import ROOT


def test_without_a_share_it_is_the_cpu_and_with_one_the_first_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    assert processor(0) == CPU
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    told = r"fleet\.gpus: must be 0 where PyTorch sees no CUDA device, got 0\.5; set fleet\.gpus=0"
    with pytest.raises(ValueError, match=told):
        processor(0.5)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert processor(0.5) == torch.device("cuda", 0)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_on_the_cpu_only_the_generator_is_touched_and_comes_back() -> None:
    before = torch.get_rng_state()
    drawn = []
    for _ in range(2):
        with seeded(CPU, 7):
            drawn.append(torch.rand(3))
            assert not torch.are_deterministic_algorithms_enabled()
    assert drawn[0].equal(drawn[1])
    assert torch.get_rng_state().equal(before)


# Between them all methods ask every question that there is.
@pytest.mark.parametrize("names", [["fedtiny", "fedmef"], pytest.param([], marks=pytest.mark.slow)], ids=["two", "all"])
def test_whole_runs_on_a_device_that_mixes_with_no_cpu_tensor_have_the_bits_of_the_cpu(names: list[str]) -> None:
    command = [sys.executable, "-m", "tests.client.elsewhere", *names]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # autograd has a thread of its own for each device
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = [line.split() for line in done.stdout.splitlines()]
    assert {words[-1] for words in told} == {"True"}, done.stdout
    assert {words[0] for words in told} >= set(names)
