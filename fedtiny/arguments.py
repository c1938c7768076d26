"""What can be said on the command line; light, so that `--help` answers at once."""

import argparse
from collections.abc import Callable
from pathlib import Path

from fedtiny.bench.subject import Subject
from fedtiny.deploy.formats import FORMATS, SUFFIXES

__all__ = ["parser"]

_WORDS = "PRESET.yaml | key=value"

_Adding = Callable[[str, str], argparse.ArgumentParser]
"""Adds a command, by its name and what it does."""


def parser() -> argparse.ArgumentParser:
    """The parser: `command` says which, `words` has presets and overrides; none where a command takes none."""
    made = argparse.ArgumentParser(
        prog="python -m fedtiny", description="Federated pruning towards tiny neural networks."
    )
    commands = made.add_subparsers(
        dest="command",
        required=True,
        metavar="run | compare | resume | export | predict | show | cost | doctor | methods | bench",
    )

    def adding(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

    _of_configurations(adding)
    _of_folders(adding)
    _of_nothing(adding)
    return made


def _of_configurations(adding: _Adding) -> None:
    words = "YAML presets, then key.of.field=value overrides on top of them, wherever they stand; later wins"
    for name, text in (
        ("run", "make one run; out=DIR names its folder (default runs/NAME-TIME)"),
        (
            "compare",
            "run a grid, then write its tables and its page: methods=A,B:KEY=VALUE density=0.05,0.01 seeds=3 "
            "[reference=A] [out=DIR]",
        ),
        ("show", "print the resolved configuration, each field with its description"),
    ):
        adding(name, text).add_argument("words", nargs="*", metavar=_WORDS, help=words)
    text = "tell what a run of each method will cost, without training; methods=a,b names some, otherwise all"
    cost = adding("cost", text)
    cost.add_argument("words", nargs="*", metavar=_WORDS, help=words)
    cost.add_argument("--json", action="store_true", help="print JSON instead of a table")
    text = "look whether this machine, or a cluster, has what a run needs, and say what to mend"
    doctor = adding("doctor", text)
    doctor.add_argument("words", nargs="*", metavar=_WORDS, help="of the run: its fleet is looked for")
    doctor.add_argument(
        "--thorough", action="store_true", help="build the engine, start or join Ray, ask every node too"
    )
    doctor.add_argument("--json", action="store_true", help="print JSON instead of lines")


def _of_folders(adding: _Adding) -> None:
    text = "go on with a run or a comparison that was broken off, to the same result as if it had not been"
    resume = adding("resume", text)
    resume.set_defaults(words=[])
    resume.add_argument("folder", type=Path, metavar="RUN_DIR", help="the run's or the comparison's folder")
    text = "write a finished run's network to RUN_DIR/export, and measure each file: bytes, accuracy, time, memory"
    export = adding("export", text)
    export.set_defaults(words=[])
    export.add_argument("folder", type=Path, metavar="RUN_DIR", help="the run's folder")
    export.add_argument("--format", nargs="+", choices=tuple(FORMATS), default=tuple(FORMATS), help="default all")
    kinds = dict.fromkeys(kind for values in FORMATS.values() for kind in values)
    help_ = "what weights are written as, where the format can; default float32, and what the run's budget is of"
    export.add_argument("--values", nargs="+", choices=tuple(kinds), help=help_)
    help_ = "test pictures to measure accuracy on, spread evenly (default all)"
    export.add_argument("--pictures", type=_count, metavar="N", help=help_)
    predict = adding("predict", "let an exported network look at pictures")
    predict.set_defaults(words=[])
    suffixes = ", ".join(SUFFIXES.values())
    predict.add_argument("artifact", type=Path, metavar="ARTIFACT", help=f"what `export` wrote: {suffixes}")
    predict.add_argument("pictures", nargs="+", type=Path, metavar="IMAGE", help="files of pictures")


def _of_nothing(adding: _Adding) -> None:
    adding("methods", "list the methods with their papers").set_defaults(words=[])
    text = "measure what the sparse engine saves on this machine: whole steps, or each kind of layer"
    bench = adding("bench", text)
    bench.set_defaults(words=[])
    bench.add_argument("what", choices=("step", "layers"))
    bench.add_argument("--json", action="store_true", help="print JSON instead of a table")
    for name, field in Subject.model_fields.items():
        shown = "" if field.default is None else f" (default {field.default})"
        bench.add_argument(f"--{name}", help=f"{field.description}{shown}", default=argparse.SUPPRESS)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more, got {text!r}")
    return int(text)
