"""Where two configurations differ."""

from collections.abc import Collection, Mapping

__all__ = ["changes"]


def changes(before: Mapping[str, object], after: Mapping[str, object], beside: Collection[str] = ()) -> list[str]:
    """Dotted keys whose values differ.

    Args:
        before: A configuration, as JSON has it.
        after: Another one.
        beside: Dotted keys that do not count, with all below them.
    """
    old, new = _leaves(before), _leaves(after)
    return [
        key
        for key in old | new
        if old.get(key) != new.get(key) and not any(f"{key}.".startswith(f"{other}.") for other in beside)
    ]


def _leaves(tree: object, path: str = "") -> dict[str, object]:
    if not isinstance(tree, Mapping) or not tree:
        return {path: tree}
    return {k: x for key, value in tree.items() for k, x in _leaves(value, f"{path}.{key}" if path else key).items()}
