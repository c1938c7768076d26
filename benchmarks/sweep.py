"""A sweep against the same runs one after the other: wall-clock, what a trial costs on top, memory over time.

    python benchmarks/sweep.py configs/sweep/all.yaml configs/quickstart.yaml rounds=20 tracking.wandb=off

The sweep comes first, then each of its trials as `python -m fedtiny run` in a process of its own, as somebody without
Tune would make them. A place is one trial at a time; ideal is the sequence's time over the places.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from memory import memory_bytes

LOOK_S = 2.0


def watched(command: list[str]) -> tuple[float, list[int]]:
    """Wall-clock seconds of a command, and the memory of all its processes every two seconds, in bytes."""
    began, seen = time.perf_counter(), []
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        seen.append(memory_bytes(process.pid))
        try:
            process.wait(LOOK_S)
        except subprocess.TimeoutExpired:
            continue
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - began, seen


def own_seconds(folder: Path) -> float:
    """Wall-clock that a run took by its own account, without imports and what is written at the end."""
    return float(json.loads((folder / "summary.json").read_text())["seconds"])


def sha(folder: Path) -> str:
    return str(json.loads((folder / "summary.json").read_text())["weights_sha256"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="+", help="presets and key=value, as for python -m tune")
    parser.add_argument("--places", type=int, default=os.cpu_count(), help="trials side by side (default: CPUs)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "sweep"
        sweep, memory = watched([sys.executable, "-m", "tune", *given.words, f"out={out}"])
        trials = sorted((out / "trials").iterdir())
        alone = []
        for trial in trials:
            again = Path(scratch) / trial.name
            run = [sys.executable, "-m", "fedtiny", "run", str(trial / "config.yaml"), f"out={again}"]
            alone.append(watched(run)[0])
            if sha(again) != sha(trial):
                raise SystemExit(f"{trial.name}: another result outside the sweep")
        inside = sum(map(own_seconds, trials))
        outside = sum(own_seconds(Path(scratch) / trial.name) for trial in trials)
    count, ideal = len(trials), sum(alone) / given.places
    print(f"{count} trials, {given.places} places, all results the same to the bit")
    print(f"one after the other   {sum(alone):7.0f} s, of which in the runs {outside:.0f} s")
    print(f"sweep                 {sweep:7.0f} s, {sweep / ideal - 1:+.0%} against the ideal of {ideal:.0f} s")
    print(f"a trial's own seconds {inside / count:7.1f} s in the sweep, {outside / count:.1f} s alone")
    beside = (sweep * given.places - inside) / count, (sum(alone) - outside) / count
    print(f"on top of them        {beside[0]:7.1f} s of a place in the sweep, {beside[1]:.1f} s alone")
    cuts = [len(memory) * i // 10 for i in range(11)]
    tenths = [max(memory[a:b]) / 2**20 for a, b in pairwise(cuts) if b > a]
    print("memory of the sweep, MiB, most in each tenth of its time: " + ", ".join(f"{x:.0f}" for x in tenths))


if __name__ == "__main__":
    main()
