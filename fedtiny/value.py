"""The one base of everything a YAML file can name."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Value"]


class Value(BaseModel):
    """A frozen, validated value: it has fields and verbs, never state.

    The string under a field is its description: help text, errors and documentation all read it there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
