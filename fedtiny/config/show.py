"""A configuration as YAML, each field with its description: what it prints can be run as it is."""

import textwrap

import yaml

from fedtiny.value import Value

__all__ = ["shown"]


def shown(value: Value, indent: str = "") -> str:
    """YAML with a comment above each field; `indent` is put before each line."""
    lines = []
    plain = value.model_dump(mode="json")
    # What a value is comes before what it has.
    for name, field in sorted(type(value).model_fields.items(), key=lambda item: item[0] != "name"):
        content = getattr(value, name)
        description = field.description
        if isinstance(content, Value) and "name" in type(content).model_fields:  # one of several: say which
            description = f"{description} {(type(content).__doc__ or '').splitlines()[0]}"
        for line in textwrap.wrap(description or "", 100):
            lines.append(f"{indent}# {line}\n")
        if isinstance(content, Value):
            lines.append(f"{indent}{name}:\n{shown(content, indent + '  ')}")
        else:
            lines.append(f"{indent}{name}: {_flow(plain[name])}\n")
    return "".join(lines)


def _flow(plain: object) -> str:
    """One line of YAML."""
    return yaml.safe_dump(plain, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
