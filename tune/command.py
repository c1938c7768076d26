"""`python -m tune`, from the words on the command line to the files."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from fedtiny.compare.grid import Cell, with_engines
from fedtiny.config.load import ConfigError
from fedtiny.config.out import named, unclaimed, unfit
from fedtiny.disk import write_whole
from tune.folder import Folder
from tune.request import Request, configured, listed, requested

__all__ = ["go_on", "sweep"]


def sweep(presets: Sequence[Path], overrides: Sequence[str]) -> int:
    """Makes a sweep; its exit code: 0, or 1 if a trial failed.

    Raises:
        ConfigError: Something is wrong with what is asked for; all of it at once, before anything starts.
        KeyboardInterrupt: Ctrl-C; says how to go on.
    """
    from tune.engine import lacking

    out, settings = named(overrides)
    mark = {"sweep.yaml": f"already holds a sweep; go on with: python -m tune resume {out}"}
    problems = unfit(out, mark) if out else []
    request: Request | None = None
    try:
        request = requested(presets, settings)
    except ConfigError as error:
        problems += error.problems
    if request is not None and (short := lacking(request.base)):
        problems.append(short)
    if problems or request is None:
        raise ConfigError(problems)
    folder = Folder(out or next(unclaimed(f"{request.base.name}-sweep")))
    with folder.claimed():
        folder.write(request)
        command = shlex.join(["python", "-m", "tune", *map(str, presets), *overrides])
        write_whole(folder.path / "command.txt", f"{command}\n")
        return _made(folder, request)


def go_on(path: Path) -> int:
    """Makes what is left of a sweep, failed trials again, and writes its files; its exit code.

    Raises:
        ConfigError: It cannot be read, or is going on elsewhere.
        KeyboardInterrupt: Ctrl-C; says how to go on.
    """
    from tune.engine import lacking

    folder = Folder(path)
    request = folder.read()
    if short := lacking(request.base):
        raise ConfigError([short])
    with folder.claimed():
        return _made(folder, request)


def _made(folder: Folder, request: Request) -> int:
    from tune.engine import make
    from tune.going import END_S
    from tune.results import came_to, write
    from tune.watch import Watch

    written = folder.samples()
    samples = {f"{number:04d}": sample for number, sample in enumerate(listed(request.sweep, request.base))}
    new = {name: sample for name, sample in samples.items() if name not in written}
    for cell in with_engines([Cell(x, None, 0, configured(request.base, x, new[x])) for x in new], {}, _tell):
        folder.add(cell.label, new[cell.label], cell.config)
    trials = folder.trials()
    over = [trial for trial in trials if trial.over]
    left = [trial.name for trial in trials if not trial.over]
    total = (request.sweep.samples or 0) if request.sweep.search == "optuna" else len(trials)
    begun = sum(folder.rounds(name) > 0 for name in left)
    _tell(
        f"{request.base.name}: {total} trials over {', '.join(request.sweep.space)}"
        + (f", {len(over)} of them over before" if over else "")
        + (f", {begun} to go on with" if begun else "")
    )
    folder.forget_unended()
    try:
        with Watch(folder, request.sweep, request.base.rounds, total) as watch:
            if len(over) < total:
                make(folder, request, left, watch)
    except KeyboardInterrupt:
        finished = sum(trial.status == "finished" for trial in folder.trials())
        way_on = f"go on with: python -m tune resume {folder.path}"
        raise KeyboardInterrupt(f"; {finished} of {total} trials are finished; {way_on}") from None
    found = write(folder, request.sweep, request.base.name)
    if found is not None:
        _tell(f"best {found.name}: {came_to(found, request.sweep.objectives)}")
    _tell("Written:")
    for name in ("sweep.html", "trials.csv", *(["best.yaml"] if found else [])):
        _tell(f"  {folder.path / name}")
    if found is None:
        _tell("no finished trial keeps all constraints, so there is no best.yaml")
    for name in folder.unended():
        what = f"its run had not closed its fleet and its trackers {END_S:.0f} s after its end"
        print(f"{folder.trial(name)}: {what}; W&B may lack its last rounds, the folder does not", file=sys.stderr)
    failed = [trial for trial in folder.trials() if trial.status == "failed"]
    if not failed:
        return 0
    print(f"{len(failed)} of {total} trials failed:", file=sys.stderr)
    for trial in failed:
        print(f"  {folder.trial(trial.name)}: {trial.reason}", file=sys.stderr)
    print(f"try them again with: python -m tune resume {folder.path}", file=sys.stderr)
    return 1


def _tell(text: str) -> None:
    print(text, flush=True)
