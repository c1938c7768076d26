"""YAML presets and dotted overrides into one validated configuration."""

import copy
import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fedtiny.config.schema import RunConfig
from fedtiny.disk import write_whole
from fedtiny.value import Below

__all__ = ["ConfigError", "Source", "gather", "load", "override", "save", "told_apart", "validate"]

Tree = dict[str, object]


class ConfigError(ValueError):
    """What is wrong with a configuration: one line for each thing, all of them at once."""

    def __init__(self, problems: Iterable[str], rest: RunConfig | None = None) -> None:
        """Keeps the lines.

        Args:
            problems: One line for each thing that is wrong.
            rest: The configuration without the keys that are wrong, to look for more in; None if that is no use.
        """
        self.problems = tuple(problems)
        self.rest = rest
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class Source:
    """A merged configuration that is not validated yet.

    Attributes:
        tree: Nested mappings, as YAML gives them.
        origin: Dotted key -> the preset that set it last; empty for an override.
        problems: What could not be read, one line each.
    """

    tree: Tree
    origin: Mapping[str, str]
    problems: tuple[str, ...] = ()

    def where(self, path: str) -> str:
        """` (in FILE)` for the preset that set `path`, or what lies around it; nothing for an override."""
        parts = path.split(".")
        for n in range(len(parts), 0, -1):
            if (key := ".".join(parts[:n])) in self.origin:
                return f" (in {self.origin[key]})" if self.origin[key] else ""
        return ""


def told_apart(words: Iterable[str]) -> tuple[list[Path], list[str]]:
    """The presets and the overrides among a command's words: a preset may have an equals sign in its path."""
    presets: list[Path] = []
    overrides: list[str] = []
    for word in words:
        # An override may be longer than a path can be: os.path takes that for no file, pathlib for an error.
        if "=" in word and not os.path.isfile(word):
            overrides.append(word)
        else:
            presets.append(Path(word))
    return presets, overrides


def gather(presets: Iterable[Path], overrides: Iterable[str] = ()) -> Source:
    """Merges presets, then `key.of.field=value` overrides, over the defaults; later wins.

    A mapping whose `name` changes replaces the one before, since the old one's fields mean nothing to it. An override
    of a `name` is taken before those of its fields, so that none of them is lost to that rule. What cannot be read is
    left out and told by `validate`, with all else that is wrong.
    """
    tree: Tree = RunConfig().model_dump(mode="json")
    origin: dict[str, str] = {}
    problems: list[str] = []
    for preset in presets:
        try:
            _merge_(tree, _read(preset), origin, str(preset), "")
        except ConfigError as error:
            problems += error.problems
    for text in _names_first(overrides):
        key, equals, value = text.partition("=")
        if not equals or not all(key.split(".")):
            problems.append(f"{text}: an override must be key=value, such as method.density=0.05")
            continue
        try:
            _merge_(tree, _nested(key, yaml.safe_load(value)), origin, "", "")
        except (yaml.YAMLError, ValueError) as error:  # 2026-13-45 is a date to YAML, and none to Python
            problems.append(f"{key}: is not YAML ({' '.join(str(error).split())})")
    return Source(tree, origin, tuple(problems))


def _names_first(overrides: Iterable[str]) -> list[str]:
    """The overrides in their order, but `a.name=` before any `a.field=` since `a=` was last set."""
    ordered: list[str] = []
    for text in overrides:
        key, _, _ = text.partition("=")
        owner, _, last = key.rpartition(".")
        at = len(ordered)
        fields = f"{owner}."
        while owner and last == "name" and at and ordered[at - 1].startswith(fields):
            if ordered[at - 1].startswith(f"{key}="):
                break
            at -= 1
        ordered.insert(at, text)
    return ordered


def _read(preset: Path) -> Tree:
    try:
        read = yaml.safe_load(preset.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError([f"{preset}: there is no such preset"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{preset}: cannot be read ({error})"]) from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError([f"{preset}: is not YAML ({' '.join(str(error).split())})"]) from None
    if read is None:
        return {}
    if not isinstance(read, dict) or not all(isinstance(key, str) for key in read):
        raise ConfigError([f"{preset}: must be a mapping of keys to values, got {type(read).__name__}"])
    return read


def load(presets: Iterable[Path], overrides: Iterable[str] = ()) -> RunConfig:
    """The configuration of presets and overrides, later winning, over the defaults.

    Raises:
        ConfigError: Something is wrong; all of it at once.
    """
    return validate(gather(presets, overrides))


def validate(source: Source) -> RunConfig:
    """The configuration in `source`.

    Raises:
        ConfigError: Keys or values are wrong; all of them at once.
    """
    try:
        config = RunConfig.model_validate(source.tree)
    except ValidationError as error:
        explained = [_explain(problem) for problem in error.errors()]
        lines = dict.fromkeys(f"{key}: {text}{source.where(key)}" for key, text in explained)
        raise ConfigError([*source.problems, *lines], _rest(source, {key for key, _ in explained})) from None
    if source.problems:
        raise ConfigError(source.problems, config)
    return config


def _rest(source: Source, wrong: set[str]) -> RunConfig | None:
    """The configuration with the wrong keys left out; None if the data set is among them, or it is still wrong."""
    tree = copy.deepcopy(source.tree)
    for key in wrong:
        *outer, last = key.split(".")
        branch: object = tree
        for part in outer:
            branch = branch.get(part) if isinstance(branch, dict) else None
        if isinstance(branch, dict):
            branch.pop(last, None)
    if any(key.split(".")[0] == "data" for key in wrong):
        return None
    try:
        return RunConfig.model_validate(tree)
    except ValidationError:
        defaults: Tree = RunConfig().model_dump(mode="json")
        branches = {key.split(".")[0] for key in wrong}
        try:
            return RunConfig.model_validate({k: defaults.get(k) if k in branches else x for k, x in tree.items()})
        except ValidationError:
            return None


def save(path: Path, config: RunConfig) -> None:
    """Writes the whole configuration as a preset, which `load` makes the same of."""
    write_whole(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def override(config: RunConfig, dotted: Mapping[str, object]) -> RunConfig:
    """`config` with some dotted keys set: `override(config, {"method.density": 0.05})`.

    Raises:
        ConfigError: A key or a value is wrong.
    """
    tree: Tree = config.model_dump(mode="json")
    origin: dict[str, str] = {}
    for key in sorted(dotted, key=lambda key: not key.endswith(".name")):
        _merge_(tree, _nested(key, dotted[key]), origin, "", "")
    return validate(Source(tree, origin))


def _nested(key: str, value: object) -> Tree:
    *outer, last = key.split(".")
    tree: Tree = {last: value}
    for part in reversed(outer):
        tree = {part: tree}
    return tree


def _merge_(tree: Tree, newer: Tree, origin: dict[str, str], source: str, path: str) -> None:
    for told, value in newer.items():
        key = str(told)  # a round of `from_round` is a number to YAML
        here = f"{path}{key}"
        origin[here] = source
        older = tree.get(key)
        if not isinstance(value, dict):
            tree[key] = value
            continue
        child = older if isinstance(older, dict) else {}
        if value.get("name", child.get("name")) != child.get("name"):
            child = {}
        tree[key] = child
        _merge_(child, value, origin, source, f"{here}.")


def _models(annotation: object) -> list[type[BaseModel]]:
    """The models that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _tag(model: type[BaseModel]) -> object:
    field = model.model_fields.get("name")
    return field.default if field else None


def _explain(problem: ErrorDetails) -> tuple[str, str]:
    """The dotted key, and the rule, the value and the way out."""
    path: list[str] = []
    models: list[type[BaseModel]] = [RunConfig]
    tags, keyed = 0, False
    for part in problem["loc"]:
        if keyed:  # a user's own name, below which the models are those of the field
            path.append(str(part))
            keyed = False
            continue
        # The location of a union carries the name of its chosen member, which is no key of the user's.
        if len(models) > 1 and part in [_tag(model) for model in models]:
            models = [model for model in models if _tag(model) == part]
            tags += 1
            continue
        if not models and isinstance(part, str):
            break  # What follows a plain field is a member of its union: ("fleet", "ray", "actors", "literal['auto']").
        path.append(str(part))
        if problem["type"] == "extra_forbidden" and len(path) == len(problem["loc"]) - tags:
            break
        fields = [model.model_fields.get(str(part)) for model in models]
        keyed = any(field and get_origin(field.annotation) is dict for field in fields)
        models = [model for field in fields if field for model in _models(field.annotation)]
    key = ".".join(path)
    match problem["type"]:
        case "extra_forbidden":
            known = sorted({name for model in models for name in model.model_fields})
            near = difflib.get_close_matches(path[-1], known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            return key, f"there is no such key; {hint}"
        case "union_tag_invalid" | "union_tag_not_found":
            names = sorted(str(_tag(model)) for model in models)
            given = problem["input"].get("name") if isinstance(problem["input"], dict) else problem["input"]
            near = difflib.get_close_matches(str(given), names, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            return f"{key}.name", f"must be one of {', '.join(names)}; {hint}got {given!r}"
        case "missing":
            return key, "must be given"
    error = problem.get("ctx", {}).get("error")
    if isinstance(error, Below):
        return f"{key}.{error.key}", f"{error.rule}, got {error.value!r}"
    message = problem["msg"].removeprefix("Value error, ")  # of a rule of ours, which starts in lower case
    message = message[0].lower() + message[1:]
    return key, f"{message}, got {problem['input']!r}"
