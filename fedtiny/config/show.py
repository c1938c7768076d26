"""A configuration as YAML, each field with its description: what it prints can be run as it is."""

import textwrap

import yaml

from fedtiny.value import Value

__all__ = ["shown"]


def shown(value: Value, indent: str = "") -> str:
    """YAML with a comment above each field; `indent` is put before each line."""
    lines = []
    for name, field in type(value).model_fields.items():
        content = getattr(value, name)
        description = field.description
        if isinstance(content, Value):
            summary = (type(content).__doc__ or "").splitlines()[0]
            description = f"{description} {summary}" if description else summary
        for line in textwrap.wrap(description or "", 100):
            lines.append(f"{indent}# {line}\n")
        if isinstance(content, Value):
            lines.append(f"{indent}{name}:\n{shown(content, indent + '  ')}")
        else:
            plain = value.model_dump(mode="json")[name]
            lines.append(indent + yaml.safe_dump({name: plain}, default_flow_style=None, width=1000))
    return "".join(lines)
