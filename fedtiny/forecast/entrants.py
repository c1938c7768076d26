"""The runs to foresee: one configuration, method by method."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import yaml

from fedtiny.config.load import ConfigError, load, override
from fedtiny.config.schema import RunConfig
from fedtiny.methods import AnyMethod, Method

__all__ = ["METHODS", "entrants"]

_UNION, _ = get_args(AnyMethod)
METHODS: dict[str, type[Method]] = {kind.model_fields["name"].default: kind for kind in get_args(_UNION)}
"""Name -> method, of all there are."""


def entrants(presets: Sequence[Path], overrides: Sequence[str]) -> list[RunConfig]:
    """The configuration with each of the methods that `methods=a,b` names, or with all there are.

    The method that the configuration names keeps its settings. All others have their own defaults, but its density and
    its schedule, so that all have one budget.
    `method.FIELD=value` goes to every method that has the field.

    Raises:
        ConfigError: Something is wrong; all of it at once.
    """
    names = _names([text for text in overrides if text.startswith("methods=")])
    fields = [text for text in overrides if text.startswith("method.") and not text.startswith("method.name=")]
    others = [text for text in overrides if text not in fields and not text.startswith("methods=")]
    base = load(presets, others)
    given = {key.removeprefix("method."): yaml.safe_load(value) for key, _, value in map(_cut, fields)}
    problems = [
        f"method.{key}: none of {', '.join(names)} has it"
        for key in given
        if not any(key.split(".")[0] in METHODS[name].model_fields for name in names)
    ]
    found: dict[str, RunConfig] = {}
    for name in names:
        dotted = {f"method.{k}": x for k, x in given.items() if k.split(".")[0] in METHODS[name].model_fields}
        if name != base.method.name:
            own, theirs = base.method.model_dump(mode="json"), METHODS[name].model_fields
            shared = {f"method.{k}": x for k, x in METHODS[name].scheduled(own, given).items()}
            shared |= {"method.density": own["density"]} if "density" in own and "density" in theirs else {}
            dotted = {"method.name": name} | shared | dotted
        try:
            found[name] = override(base.shared_with(METHODS[name]), dotted)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(dict.fromkeys(problems))
    return list(found.values())


def _names(words: Sequence[str]) -> list[str]:
    if not words:
        return list(METHODS)
    asked = [name.strip() for name in words[-1].removeprefix("methods=").strip("[]").split(",")]
    wrong = [name for name in asked if name not in METHODS]
    if wrong:
        raise ConfigError([f"methods: must be among {', '.join(METHODS)}, got {', '.join(map(repr, wrong))}"])
    return list(dict.fromkeys(asked))


def _cut(text: str) -> tuple[str, str, str]:
    return text.partition("=")
