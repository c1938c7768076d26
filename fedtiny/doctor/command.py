"""`python -m fedtiny doctor`: what was found, as lines or JSON."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedtiny.doctor.examine import examine
from fedtiny.doctor.finding import Finding

__all__ = ["doctor"]

_COLOURS = {"ok": "green", "warning": "yellow", "failure": "bold red"}


def doctor(presets: Sequence[Path], overrides: Sequence[str], thorough: bool, as_json: bool) -> int:
    """Looks, and prints; the exit code is 2 if anything failed, else 0.

    Args:
        presets: Of a run: where its fleet is, and whether it asks for GPUs.
        overrides: As for a run.
        thorough: As in `examine`.
        as_json: Print JSON instead of lines.

    Raises:
        ConfigError: Presets or overrides are wrong.
    """
    address, gpus = None, 0.0
    if presets or overrides:  # else the doctor gets by without what may be missing
        from fedtiny.config.load import load
        from fedtiny.fleets import RayActors

        fleet = load(presets, overrides).fleet
        address, gpus = fleet.address if isinstance(fleet, RayActors) else None, fleet.gpus
    found = list(examine(address, gpus, thorough))
    failed = any(x.state == "failure" for x in found)
    if as_json:
        print(json.dumps({"healthy": not failed, "findings": [asdict(x) for x in found]}, indent=2))
    else:
        _show(found)
    return 2 if failed else 0


def _show(found: Sequence[Finding]) -> None:
    terminal = Console(highlight=False)
    if not terminal.is_terminal:  # whole lines, for whoever reads them
        terminal = Console(highlight=False, width=400)
    grid = Table.grid(padding=(0, 2))
    for x in found:
        grid.add_row(Text(x.state, _COLOURS[x.state]), Text(x.what, "bold"), Text(x.text))
        if x.mend:
            grid.add_row("", "", Text(f"-> {x.mend}", _COLOURS[x.state]))
    terminal.print(grid)
    count = Counter(x.state for x in found)
    parts = [f"{count[s]} {s}{'s' * (count[s] > 1)}" for s in ("failure", "warning") if count[s]]
    terminal.print(", ".join(parts) or "nothing to mend")
