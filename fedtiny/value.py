"""The one base of everything a YAML file can name."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Below", "Value"]


class Below(ValueError):
    """What is wrong with something below the field that a validator looks at."""

    def __init__(self, key: str, rule: str, value: object) -> None:
        """Keeps all three.

        Args:
            key: Dotted, from the field on.
            rule: What must hold, and the way out.
            value: What was given there.
        """
        super().__init__(f"{key}: {rule}, got {value!r}")
        self.key, self.rule, self.value = key, rule, value


class Value(BaseModel):
    """A frozen, validated value: it has fields and verbs, never state.

    The string under a field is its description: help text, errors and documentation all read it there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
