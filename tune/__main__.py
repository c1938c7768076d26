"""The command line: python -m tune SWEEP.yaml RUN.yaml [key=value ...] | resume DIR | workspace PROJECT."""

import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

USAGE = """usage: python -m tune SWEEP.yaml RUN.yaml [key=value ...] [out=DIR]
       python -m tune resume DIR
       python -m tune workspace PROJECT [--entity ENTITY] [--knobs KEY ...] [--dry-run]

Many runs over a space of settings. A preset with a sweep: section says which (configs/sweep/); the others, and
key=value on top of them, say what run they are variations of; sweep.KEY=VALUE is for the sweep. docs/sweep.md
workspace saves a view of the project's runs in W&B. docs/tracking.md"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code.

    0 done, 1 a trial failed, 2 asked for something impossible, 130 Ctrl-C, 143 SIGTERM.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help") or (words[0] == "resume" and len(words) != 2):
        print(USAGE, file=sys.stdout if words and words[0] != "resume" else sys.stderr)
        return 0 if words and words[0] != "resume" else 2

    from fedtiny.config.load import ConfigError
    from fedtiny.termination import interruptible

    try:
        with interruptible() as interrupted:
            return _done(words)
    except ConfigError as error:
        for problem in error.problems:
            print(f"config: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"interrupted{error}", file=sys.stderr)
        return interrupted.code


def _done(words: Sequence[str]) -> int:
    from fedtiny.config.load import told_apart
    from tune.command import go_on, sweep

    if words[0] == "workspace":
        from tune.workspace import asked

        return asked(words[1:])
    if words[0] == "resume":
        return go_on(Path(words[1]))
    return sweep(*told_apart(words))


if __name__ == "__main__":
    sys.exit(main())
