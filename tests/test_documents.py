"""README and docs: links lead somewhere, and the runs that they show are such as the program takes."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from fedtiny.config.load import gather, load, validate
from tests.test_cli import ROOT
from tune.sweep import Sweep

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = re.compile(r"python -m (?:fedtiny )?((?:run|show|tune) [^`#\n]*)")


def taken(presets: list[Path], overrides: list[str], sweep: bool) -> None:
    """Raises whatever the program would say of it before it looks at data."""
    if not sweep:
        load(presets, overrides)
        return
    source = gather(presets, overrides)
    Sweep.model_validate(source.tree["sweep"])
    validate(replace(source, tree={key: x for key, x in source.tree.items() if key != "sweep"}))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_runs_and_sweeps_that_are_shown_can_be_asked_for(page: Path) -> None:
    for found in SHOWN.findall(page.read_text(encoding="utf-8").replace("\\\n", " ")):
        verb, *words = shlex.split(found.replace('"', " ") if found.count('"') % 2 else found)
        given = [word for word in words if not word.startswith(("--", "out="))]
        presets = [ROOT / word for word in given if "=" not in word]
        if all(preset.is_file() for preset in presets):  # else it speaks of the reader's own, or is cut short
            taken(presets, [word for word in given if "=" in word], verb == "tune")
