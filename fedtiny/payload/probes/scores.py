"""A number for each prunable weight: what importance scores and accumulated gradients travel as."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from fedtiny.payload.probes.base import LARGEST, Most, Places, Sizes, floats

__all__ = ["Scores", "decode_scores"]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """An answer: parameter name -> (N,) float32, one number for each of its weights, kept or not."""

    layers: Mapping[str, Tensor]

    def encode(self, sizes: Sizes) -> bytes:
        """The bytes on the wire: 4 a weight."""
        return b"".join(values.numpy().tobytes() for values in self.layers.values())

    def check(self, sizes: Sizes, places: Places, most: Most) -> None:
        """Raises a ValueError that says what no honest client could have measured."""
        for name, values in self.layers.items():
            if not values.isfinite().all():
                raise ValueError(f"scores of {name} are not finite: it diverged")
            if float(values.abs().max()) > LARGEST:
                raise ValueError(f"scores of {name} must lie within {LARGEST:g}, got {float(values.abs().max()):g}")


def decode_scores(buffer: memoryview, names: Iterable[str], sizes: Sizes) -> tuple[Scores, int]:
    """The scores of these parameters at the start of `buffer`, and the bytes they took."""
    layers, offset = {}, 0
    for name in names:
        layers[name] = floats(buffer, offset, sizes[name])
        offset += 4 * sizes[name]
    return Scores(layers), offset
