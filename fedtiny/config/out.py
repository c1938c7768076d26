"""The folder that `out=` names, or one that nobody named."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["named", "unclaimed", "unfit"]


def named(overrides: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The folder of the last `out=`, if there is one, and the overrides that are of something else."""
    out = [text.removeprefix("out=") for text in overrides if text.startswith("out=")]
    return (Path(out[-1]) if out else None), [text for text in overrides if not text.startswith("out=")]


def unfit(path: Path, marks: Mapping[str, str], beside: Collection[str] = ()) -> list[str]:
    """Why nothing new can be written to this folder, in a line; empty if nothing speaks against it.

    Args:
        path: The folder; it need not be there.
        marks: A file -> what to say if it is there, the way out included.
        beside: Files that may be there.
    """
    if not path.exists():
        return []
    if not path.is_dir():
        return [f"out: {path} is not a folder; name another"]
    if not {x.name for x in path.iterdir()} - set(beside):
        return []
    told = (what for mark, what in marks.items() if (path / mark).exists())
    return [f"out: {path} {next(told, 'is not an empty folder; name another folder, or remove it')}"]


def unclaimed(name: str) -> Iterator[Path]:
    """Folders for what nobody named one for: below `runs/`, with the time in their names; none of them is there yet."""
    named = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    for path in (named, *(named.with_name(f"{named.name}-{n}") for n in range(2, 1000))):
        if not path.exists():
            yield path
