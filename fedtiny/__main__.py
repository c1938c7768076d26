"""The command line: run | compare | resume | export | predict | show | cost | doctor | methods | bench."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from fedtiny.arguments import parser
from fedtiny.bench.subject import Subject

if TYPE_CHECKING:
    from fedtiny.config.load import ConfigError
    from fedtiny.config.schema import RunConfig
    from fedtiny.prepare import Prepared

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code.

    0 done, 1 failed on the way, 2 asked for something impossible, 130 Ctrl-C, 143 SIGTERM.
    """
    given = parser().parse_args(arguments)
    if given.command == "doctor" and not given.words:  # which looks whether what the rest needs is there
        return _doctor([], [], given)
    from fedtiny.config.load import ConfigError
    from fedtiny.termination import interruptible

    try:
        with interruptible() as interrupted:
            return _done(given)
    except ConfigError as error:
        return _refused(error)
    except KeyboardInterrupt as error:
        print(f"interrupted{error}", file=sys.stderr)
        return interrupted.code


def _done(given: argparse.Namespace) -> int:
    from fedtiny.config.load import told_apart

    presets, overrides = told_apart(given.words)
    if given.command == "methods":
        _methods()
    elif given.command == "compare":
        return _compare(presets, overrides)
    elif given.command == "resume":
        return _resume(given.folder)
    elif given.command == "export":
        return _export(given)
    elif given.command == "predict":
        _predict(given)
    elif given.command == "bench":
        _bench(given)
    elif given.command == "show":
        _show(presets, overrides)
    elif given.command == "cost":
        _cost(presets, overrides, given.json)
    elif given.command == "doctor":
        return _doctor(presets, overrides, given)
    else:
        return _run(presets, overrides)
    return 0


def _refused(error: "ConfigError") -> int:
    for problem in error.problems:
        print(f"config: {problem}", file=sys.stderr)
    return 2


def _export(given: argparse.Namespace) -> int:
    from fedtiny.deploy.command import export
    from fedtiny.track.console import show_table

    try:
        table, remarks = export(given.folder, given.format, given.values, given.pictures)
    except OSError as error:
        print(f"cannot write: {error.strerror or error} ({error.filename or given.folder})", file=sys.stderr)
        return 1
    show_table(table)
    for line in remarks:
        print(line)
    print(f"Written: {given.folder / 'export'}")
    return 0


def _predict(given: argparse.Namespace) -> None:
    from fedtiny.deploy.predict import predict

    for line in predict(given.artifact, given.pictures):
        print(line)


def _run(presets: Sequence[Path], overrides: Sequence[str]) -> int:
    from fedtiny.asked import asked, claimed
    from fedtiny.config.load import ConfigError
    from fedtiny.prepare import prepare

    config, folder = asked(presets, overrides)
    with _booting(config):
        try:
            prepared = prepare(config, print)
            return _make(prepared, claimed(folder, config.name))
        except ConfigError as error:  # told before the fleet is taken down again
            return _refused(error)


def _compare(presets: Sequence[Path], overrides: Sequence[str]) -> int:
    from fedtiny.compare.command import compare

    return compare(presets, overrides)


def _resume(folder: Path) -> int:
    from fedtiny.config.load import ConfigError, load
    from fedtiny.prepare import prepare

    if (folder / "comparison.yaml").is_file():
        from fedtiny.compare.command import go_on

        return go_on(folder)
    if not (folder / "config.yaml").is_file():
        raise ConfigError([f"{folder}: holds no run (there is no config.yaml); name a run's folder"])
    if (folder / "summary.json").exists():
        raise ConfigError([f"{folder}: this run is finished; its result is in summary.json"])
    if not (folder / "config.yaml").read_text(encoding="utf-8"):
        raise ConfigError([f"{folder}: this run was broken off before it began; make it anew with another out=DIR"])
    config = load([folder / "config.yaml"])
    with _booting(config):
        return _make(prepare(config, print), folder, resume=True)


def _booting(config: "RunConfig") -> AbstractContextManager[None]:
    from fedtiny.config.load import ConfigError

    try:
        return config.fleet.booting()
    except ValueError as error:
        raise ConfigError([str(error)]) from error


def _make(prepared: "Prepared", folder: Path, resume: bool = False) -> int:
    """Makes the run; its exit code."""
    from fedtiny.payload.fleet import ClientFailed
    from fedtiny.run import run
    from fedtiny.track.console import Console
    from fedtiny.trackers import trackers

    config = prepared.config
    print(f"{config.name}: {config.method.name}, {config.data.name}, {config.model.name}, {config.clients} clients")
    sinks = [*trackers(config, folder), Console(folder)]
    way_on = f"go on with: python -m fedtiny resume {folder}"
    try:
        run(prepared, folder, sinks, resume)
    except ClientFailed as error:
        print(f"{error}\n{way_on}", file=sys.stderr)
        return 1
    except OSError as error:
        what = f"{error.strerror or error} ({error.filename or folder})"
        print(f"the run stops, since it cannot write: {what}\nmake room, then {way_on}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"; {way_on}") from None
    return 0


def _show(presets: Sequence[Path], overrides: Sequence[str]) -> None:
    from fedtiny.config.load import ConfigError, load
    from fedtiny.config.show import shown

    config = load(presets, overrides)
    if config.budget is not None and not config.budget.settled:
        from fedtiny.prepare import within_budget

        try:
            examples = config.data.load()
        except ValueError as error:
            raise ConfigError([f"data: {error}"]) from error
        config = within_budget(config, examples, lambda line: print(f"# {line}"))
    print(shown(config), end="")


def _cost(presets: Sequence[Path], overrides: Sequence[str], as_json: bool) -> None:
    import json

    from fedtiny.bench.machine import machine
    from fedtiny.forecast.bill import HOW
    from fedtiny.forecast.entrants import entrants
    from fedtiny.forecast.foresee import bills, tables
    from fedtiny.track.console import show_table

    found = bills(entrants(presets, overrides), lambda text: print(text, file=sys.stderr))
    if as_json:
        told = {"how": HOW, "machine": machine(), "methods": [bill.told() for bill in found]}
        print(json.dumps(told, indent=2))
        return
    for table in tables(found):
        show_table(table)
    for kind, text in HOW.items():
        print(f"{kind}: {text}")
    for bill in found:
        for note in bill.notes:
            print(f"{bill.name}: {note}")


def _doctor(presets: Sequence[Path], overrides: Sequence[str], given: argparse.Namespace) -> int:
    from fedtiny.doctor.command import doctor

    return doctor(presets, overrides, given.thorough, given.json)


def _bench(given: argparse.Namespace) -> None:
    import json

    from pydantic import ValidationError

    from fedtiny.bench.layers import layers
    from fedtiny.bench.step import step
    from fedtiny.config.load import ConfigError
    from fedtiny.sparse.engine.kernels import EngineUnavailable
    from fedtiny.track.console import show_table

    named = {key: value for key, value in vars(given).items() if key in Subject.model_fields}
    try:
        table, told = (step if given.what == "step" else layers)(Subject.model_validate(named))
    except ValidationError as error:
        lines = (f"--{'.'.join(map(str, x['loc']))}: {x['msg']} (got {x['input']})" for x in error.errors())
        raise ConfigError(lines) from None
    except EngineUnavailable as error:
        raise ConfigError([f"engine: {error}"]) from None
    if given.json:
        print(json.dumps(told, indent=2))
    else:
        show_table(table)


def _methods() -> None:
    from typing import get_args

    from fedtiny.methods import AnyMethod

    union, _ = get_args(AnyMethod)
    for method in get_args(union):
        print(f"{method.model_fields['name'].default:12} {(method.__doc__ or '').splitlines()[0]}")


if __name__ == "__main__":
    sys.exit(main())
