"""FedTiny beside its controls on the quickstart's data: accuracy, bytes and FLOPs at several densities.

    python benchmarks/quickstart.py [--seeds 3] [--densities 0.05 0.01] [--methods fedtiny static] [key=value ...]

Runs use the inline fleet, one process a CPU, which gives the same bits as Ray actors. Prints a Markdown table of means
over seeds. Validation accuracy is the mean of the last five rounds: choose settings by it, never by the test's.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from fedtiny.config.load import load
from fedtiny.prepare import prepare
from fedtiny.run import run
from fedtiny.track.results import number, rigl_flops

METHODS = {
    "fedtiny": [],
    "selection only": ["method.fraction=0"],
    "progressive only": ["method.candidates=1", "method.noise=0"],
    "static": ["method={name: static}"],
    "dense": ["method={name: dense}"],
}


def one(preset: str, method: str, density: float, seed: int, overrides: list[str]) -> dict[str, object]:
    """One run's summary, with the validation accuracy of its last five rounds."""
    words = [*METHODS[method], f"seed={seed}", "fleet.name=inline"]
    if method != "dense":
        words.append(f"method.density={density}")
    if method in ("static", "dense"):
        overrides = [word for word in overrides if not word.startswith("method.")]
    prepared = prepare(load([Path(preset)], [*words, *overrides]))
    with tempfile.TemporaryDirectory() as folder:
        result = run(prepared, Path(folder))
    last = [x.validation_accuracy for x in result.records[-5:] if x.validation_accuracy is not None]
    return {"label": method, "target": density, **result.summary, "validation_last5": statistics.mean(last)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="configs/quickstart.yaml")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--densities", type=float, nargs="+", default=[0.05, 0.01, 0.005, 0.003])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--json", type=Path, help="also write every run's summary here")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_args()
    cells = [
        (method, density)
        for method, density in itertools.product(given.methods, given.densities)
        if method != "dense" or density == given.densities[0]
    ]
    jobs = [(given.preset, *cell, seed, given.overrides) for cell in cells for seed in range(given.seeds)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        runs = list(pool.map(one, *zip(*jobs, strict=True)))
    if given.json:
        given.json.write_text(json.dumps(runs, indent=2))
    print("| density | method | test accuracy, % | each seed | validation, % | up, MB | MFLOP a round (rigl) |")
    print("|---|---|---|---|---|---|---|")
    for method, density in sorted(cells, key=lambda cell: (cell[0] != "dense", -cell[1])):
        same = [x for x in runs if x["label"] == method and x["target"] == density]
        test = [100 * number(x, "test_accuracy") for x in same]
        checked = statistics.mean(100 * number(x, "validation_last5") for x in same)
        up = statistics.mean(number(x, "upload_bytes") for x in same) / 1e6
        flops = statistics.mean(rigl_flops(x) for x in same) / 1e6
        each = " ".join(f"{x:.1f}" for x in test)
        shown = "1" if method == "dense" else f"{density:g}"
        print(f"| {shown} | {method} | {statistics.mean(test):.1f} | {each} | {checked:.1f} | {up:.2f} | {flops:.1f} |")


if __name__ == "__main__":
    main()
