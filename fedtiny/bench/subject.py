"""What a benchmark measures; light, so that the command line can name its options."""

from typing import Annotated

from pydantic import Field

from fedtiny.value import Value

__all__ = ["Subject"]

Count = Annotated[int, Field(ge=1)]


class Subject(Value):
    """What is measured."""

    model: str = "resnet18"
    """A network's name."""
    width: Count | None = None
    """Its width; none is its own."""
    density: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Kept / prunable weights, the same in each layer, at random places."""
    batch: Annotated[int, Field(ge=2)] = 64
    """Examples a step."""
    threads: Count = 1
    """Threads of both engines."""
    size: Count = 32
    """Height and width of a picture, in pixels."""
    channels: Count = 3
    """Channels of a picture."""
    classes: Count = 10
    """Outputs."""
    seconds: Annotated[float, Field(gt=0)] = 20.0
    """How long to time each pair of engines, about."""
