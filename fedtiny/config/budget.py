"""What a device has room for. From it a run's density follows, and its width where need be: `fedtiny.budget`."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from fedtiny.export.values import CValues
from fedtiny.value import Value

__all__ = ["DEVICES", "LIMITS", "Budget", "Limit"]

KIB, MIB = 2**10, 2**20

Limit = Literal["flash_bytes", "ram_bytes", "flops", "train_ram_bytes"]
LIMITS: tuple[Limit, ...] = ("flash_bytes", "ram_bytes", "flops", "train_ram_bytes")

DEVICES: Mapping[str, Mapping[Limit, int]] = {
    "cortex-m4": {"flash_bytes": 256 * KIB, "ram_bytes": 64 * KIB},
    "cortex-m7": {"flash_bytes": 1 * MIB, "ram_bytes": 256 * KIB},
    "esp32-s3": {"flash_bytes": 4 * MIB, "ram_bytes": 256 * KIB},
    "raspberry-pi-zero": {"flash_bytes": 16 * MIB, "ram_bytes": 64 * MIB, "train_ram_bytes": 256 * MIB},
    "phone": {"flash_bytes": 16 * MIB, "ram_bytes": 128 * MIB, "train_ram_bytes": 512 * MIB},
}
"""Device -> what a model may take of it: half of what it has, the rest being the firmware's; see docs/budget.md.

None has a limit on FLOPs: how long a prediction may take is the application's to say. None of the first three trains.
"""


class Budget(Value):
    """What the exported model may take of a device, and what training may; whatever is none has no limit."""

    device: str | None = None
    """cortex-m4, cortex-m7, esp32-s3, raspberry-pi-zero or phone: gives each limit that is none; none gives none."""
    flash_bytes: Annotated[int, Field(ge=1)] | None = None
    """Bytes of the exported C program: code and constants."""
    ram_bytes: Annotated[int, Field(ge=1)] | None = None
    """Bytes of RAM that a prediction takes, the picture that it is given not counted."""
    flops: Annotated[float, Field(gt=0)] | None = None
    """FLOPs of one prediction: 2 a multiply-add of a kept weight."""
    train_ram_bytes: Annotated[int, Field(ge=1)] | None = None
    """Bytes that training takes on a client, modelled: weights, gradients, momentum, top-k buffer, activations."""
    values: CValues = "int8"
    """What the exported C program computes with."""
    least_density: Annotated[float, Field(gt=0, le=1)] = 0.01
    """A network that would have to be pruned further than this is made narrower first."""
    settled: bool = False
    """Whether density and width have been chosen by it already: a run writes so into its config.yaml."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, told: object) -> object:
        """`budget: cortex-m4` is as good as `budget: {device: cortex-m4}`."""
        if isinstance(told, str):
            told = {"device": told}
        if not isinstance(told, dict) or (device := told.get("device")) is None:
            return told
        if device not in DEVICES:
            raise PydanticCustomError("budget", f"must be {', '.join(DEVICES)}, or a mapping of limits")
        stated = {key: value for key, value in told.items() if value is not None}
        return {**DEVICES[device], **stated}

    @model_validator(mode="after")
    def _limited(self) -> "Budget":
        if not self.limits:
            raise PydanticCustomError("budget", f"must have a limit, one or more of {', '.join(LIMITS)}, or a device")
        return self

    @property
    def limits(self) -> dict[Limit, float]:
        """The limits that there are, by name."""
        told: dict[Limit, float | None] = {
            "flash_bytes": self.flash_bytes,
            "ram_bytes": self.ram_bytes,
            "flops": self.flops,
            "train_ram_bytes": self.train_ram_bytes,
        }
        return {name: limit for name, limit in told.items() if limit is not None}
