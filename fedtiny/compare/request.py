"""What is asked of a comparison: methods, densities and seeds, and the run that they are variations of.

A method is `NAME`, or a variant of it with settings of its own: `NAME:KEY=VALUE:KEY=VALUE`, with a label of its own if
there is one in front: `LABEL=NAME:KEY=VALUE`. In YAML it may be a mapping: `{label: ..., name: ..., KEY: VALUE}`.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import yaml

from fedtiny.config.load import ConfigError, Source, gather
from fedtiny.methods import AnyMethod, Method
from fedtiny.methods.base import SCHEDULE

__all__ = ["Request", "Variant", "kinds", "requested"]

_KEYS = ("methods", "density", "seeds", "reference", "method")


@dataclass(frozen=True, slots=True)
class Variant:
    """A method with settings of its own.

    Attributes:
        label: What tables call it.
        name: The method.
        settings: Key within the method, dotted -> value.
    """

    label: str
    name: str
    settings: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    Attributes:
        variants: The methods to compare.
        densities: Densities to compare them at.
        seeds: Seeds to repeat each with.
        reference: Label of the method that the others are tested against.
        shared: Settings of every method that has them: key within the method, dotted -> value.
        schedule: Likewise, where nothing else is said: when masks move, as a preset says of its own method.
        source: The rest: a run's configuration, not validated yet.
    """

    variants: tuple[Variant, ...]
    densities: tuple[float, ...]
    seeds: tuple[int, ...]
    reference: str
    shared: Mapping[str, object]
    schedule: Mapping[str, object]
    source: Source


def kinds() -> dict[str, type[Method]]:
    """Name -> method, of all there are."""
    union, _ = get_args(AnyMethod)
    return {kind.model_fields["name"].default: kind for kind in get_args(union)}


def requested(presets: Iterable[Path], overrides: Iterable[str]) -> Request:
    """Reads presets, whose `compare:` section asks for a comparison, and overrides; later wins.

    Raises:
        ConfigError: What is asked for makes no sense; all of it at once.
    """
    rest: list[str] = []
    shared: dict[str, object] = {}
    problems: list[str] = []
    for text in overrides:
        key, _, value = text.partition("=")
        if key in _KEYS[:-1]:
            # A word to YAML, unless it is a list: `a:key={name: x}` would be a mapping otherwise.
            told = json.dumps(value) if key == "methods" and not value.startswith("[") else value
            rest.append(f"compare.{key}={told}")
        elif key in ("method", "method.name"):
            problems.append(f"{key}: a comparison names its methods with methods=, got {value}")
        elif key == "method.density":
            problems.append(f"{key}: a comparison names its densities with density=, got {value}")
        elif key == "seed":
            problems.append(f"{key}: a comparison names its seeds with seeds= (a number, or a list), got {value}")
        elif key.startswith("method."):
            shared[key.removeprefix("method.")] = _plain(key, value, problems)
        else:
            rest.append(text)
    source = gather(presets, rest)
    tree = dict(source.tree)
    asked = tree.pop("compare", {})
    if not isinstance(asked, dict):
        problems.append(f"compare: must be a mapping with keys {', '.join(_KEYS)}, got {asked!r}")
        asked = {}
    problems += [
        f"compare.{key}: there is no such key; known are {', '.join(_KEYS)}" for key in asked if key not in _KEYS
    ]
    budget = tree.get("budget")
    if budget is not None and not (isinstance(budget, dict) and budget.get("settled")):
        problems.append(
            f"budget: chooses a run's density, and a comparison names its own; show tells which density it chooses, "
            f"for density=, got {budget!r}"
        )
    shared = _flat(asked.get("method", {})) | shared
    variants = _variants(asked.get("methods"), problems)
    if not variants and not problems:
        problems.append("methods: must be given, such as methods=fedtiny,static,dense")
    problems += _strangers(variants, shared)
    request = Request(
        variants=tuple(variants),
        densities=_numbers("density", asked.get("density"), float, problems),
        seeds=_seeds(asked.get("seeds", 3), problems),
        reference=str(asked.get("reference", "")),
        shared=shared,
        schedule=_schedule(source),
        source=replace(source, tree=tree),
    )
    needing = [x.label for x in variants if x.name in kinds() and "density" in kinds()[x.name].model_fields]
    if needing and not request.densities and not any(x.startswith("density") for x in problems):
        problems.append("density: must be given, such as density=0.05,0.01,0.005")
    labels = [variant.label for variant in variants]
    if request.reference and request.reference not in labels:
        problems.append(f"reference: must be one of {', '.join(labels)}, got {request.reference}")
    if problems:
        raise ConfigError(problems)
    return replace(request, reference=request.reference or (needing or labels)[0])


def _schedule(source: Source) -> dict[str, object]:
    """When masks move, as far as presets say."""
    told = source.tree.get("method")
    assert isinstance(told, dict)
    return {key: told[key] for key in SCHEDULE if f"method.{key}" in source.origin and key in told}


def _plain(key: str, value: str, problems: list[str]) -> object:
    try:
        return yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:
        problems.append(f"{key}: is not YAML ({' '.join(str(error).split())})")
        return None


def _flat(told: object) -> dict[str, object]:
    return {str(key): value for key, value in told.items()} if isinstance(told, dict) else {}


def _split(text: str, at: str) -> list[str]:
    """The parts of a text between `at`, wherever it is not in brackets or quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        depth += (letter in "[{") - (letter in "]}")
        if letter == at and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _variants(told: object, problems: list[str]) -> list[Variant]:
    texts = told if isinstance(told, list) else [] if told is None else _split(str(told), ",")
    found = []
    for item in texts:
        variant = _mapped(item, problems) if isinstance(item, dict) else _parsed(str(item), problems)
        if variant is not None:
            found.append(variant)
    for label in sorted({x.label for x in found if sum(y.label == x.label for y in found) > 1}):
        problems.append(f"methods: each needs a label of its own, got {label} more than once")
    return found


def _parsed(text: str, problems: list[str]) -> Variant | None:
    first, *settings = _split(text, ":")
    label, equals, name = first.rpartition("=")
    told: dict[str, object] = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign or not key:
            problems.append(f"methods: a setting must be KEY=VALUE, such as static:score=random, got {setting!r}")
            return None
        told[key] = _plain(f"methods: {key}", value, problems)
    return _known(Variant(label if equals else text, name, told), problems)


def _mapped(item: Mapping[str, object], problems: list[str]) -> Variant | None:
    settings = {str(key): value for key, value in item.items() if key not in ("label", "name")}
    name = str(item.get("name", ""))
    text = ":".join([name, *(f"{key}={value}" for key, value in settings.items())])
    return _known(Variant(str(item.get("label", text)), name, settings), problems)


def _known(variant: Variant, problems: list[str]) -> Variant | None:
    names = sorted(kinds())
    if variant.name in names and variant.label:
        return variant
    if variant.name in names:
        problems.append(f"methods: a label must not be empty ({variant.name})")
        return None
    near = difflib.get_close_matches(variant.name, names, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    problems.append(f"methods: must be of {', '.join(names)}; {hint}got {variant.name!r}")
    return None


def _strangers(variants: Sequence[Variant], shared: Mapping[str, object]) -> list[str]:
    """Settings that no method has."""
    known = {key for x in variants for key in kinds()[x.name].model_fields}
    problems = []
    for key in shared:
        if key.split(".")[0] not in known and variants:
            near = difflib.get_close_matches(key, sorted(known), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(f"method.{key}: none of the methods has such a setting{hint}")
    return problems


def _items(told: object) -> list[object]:
    if told is None:
        return []
    return list(told) if isinstance(told, list) else [yaml.safe_load(part) for part in _split(str(told), ",")]


def _numbers(key: str, told: object, kind: type[float] | type[int], problems: list[str]) -> tuple[float, ...]:
    found: dict[float, None] = {}
    for item in _items(told):
        try:
            if isinstance(item, bool) or not isinstance(item, int | float | str):
                raise ValueError
            number = kind(item)  # YAML takes 5e-3 for a word
            if number != float(item):
                raise ValueError
        except ValueError:
            what = "whole numbers" if kind is int else "numbers"
            problems.append(f"{key}: must be {what} with commas between, got {item!r}")
            continue
        found[number] = None
    return tuple(found)


def _seeds(told: object, problems: list[str]) -> tuple[int, ...]:
    """`3` is 0, 1, 2; `0,4` or `[4]` is those."""
    if (isinstance(told, int) and not isinstance(told, bool)) or (isinstance(told, str) and re.fullmatch(r"\d+", told)):
        if int(told) < 1:
            problems.append(f"seeds: must be at least 1, got {told}")
        return tuple(range(int(told)))
    found = tuple(int(x) for x in _numbers("seeds", told, int, problems))
    if not found and not any(x.startswith("seeds") for x in problems):
        problems.append("seeds: must name at least one")
    return found
