"""Where the kept weights go: an overall density in, weights to keep in each layer out."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedtiny.value import Value

__all__ = ["Allocation", "Around", "Er", "Erk", "Noisy", "Uniform", "whole_counts"]

Shapes = Mapping[str, Sequence[int]]
Floats = NDArray[np.float64]


def _sizes(shapes: Shapes) -> NDArray[np.int64]:
    return np.array([int(np.prod(shape)) for shape in shapes.values()], dtype=np.int64)


def whole_counts(ideal: Floats, sizes: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    """Rounds ideal counts to whole ones: at least 1, at most the layer's size, together exactly `budget`.

    What rounding down leaves goes to the largest remainders; what the least of one weight a layer takes too much is
    given back by the largest layers.

    Args:
        ideal: (L,) weights to keep, any real number >= 0.
        sizes: (L,) weights of each layer.
        budget: Weights to keep in all, L <= budget <= sum(sizes).
    """
    if budget < len(sizes):
        raise ValueError(
            f"density must keep at least one weight in each of the {len(sizes)} prunable layers: "
            f"it keeps {budget} of {sizes.sum()} weights; the least density is {len(sizes) / sizes.sum():.2g}"
        )
    counts = np.clip(np.floor(ideal), 1, sizes).astype(np.int64)
    while counts.sum() > budget:
        counts[np.argmax(counts)] -= 1
    while counts.sum() < budget:
        room = np.where(counts < sizes, ideal - counts, -np.inf)
        counts[np.argmax(room)] += 1
    return counts


class _Density(Value):
    def densities(self, shapes: Shapes, density: float, rng: np.random.Generator) -> Floats:
        """(L,) ideal density of each layer, in [0, 1]."""
        raise NotImplementedError

    def counts(self, shapes: Shapes, density: float, rng: np.random.Generator) -> dict[str, int]:
        """Weights to keep in each layer: at least 1, together at most `density` of all.

        Args:
            shapes: Parameter name -> shape, (out, in) or (out, in, height, width).
            density: Kept / prunable weights, in (0, 1].
            rng: The only source of randomness.

        Raises:
            ValueError: The density is too low to keep one weight in each layer; names the least that does.
        """
        sizes = _sizes(shapes)
        ideal = self.densities(shapes, density, rng) * sizes
        # 1e-9: 0.07 * 100 is 7.000000000000001 in floats, 0.29 * 100 is 28.999999999999996.
        budget = int(np.floor(min(ideal.sum(), density * sizes.sum()) + 1e-9))
        if density * sizes.sum() >= len(sizes):
            budget = max(budget, len(sizes))
        return dict(zip(shapes, whole_counts(ideal, sizes, budget).tolist(), strict=True))


class Uniform(_Density):
    """Every layer has the target density."""

    name: Literal["uniform"] = "uniform"

    def densities(self, shapes: Shapes, density: float, rng: np.random.Generator) -> Floats:
        return np.full(len(shapes), density)


class _ErdosRenyi(_Density):
    """A layer's density is eps times a number of its shape; where that exceeds 1 it is 1, and eps is solved again."""

    def raw(self, shape: Sequence[int]) -> float:
        """The density of a layer of this shape, up to eps."""
        raise NotImplementedError

    def densities(self, shapes: Shapes, density: float, rng: np.random.Generator) -> Floats:
        sizes = _sizes(shapes)
        raw = np.array([self.raw(shape) for shape in shapes.values()])
        dense = np.zeros(len(shapes), dtype=bool)
        while True:
            rest = density * sizes.sum() - sizes[dense].sum()
            scale = rest / (raw * sizes)[~dense].sum() if not dense.all() else 0.0
            result = np.where(dense, 1.0, scale * raw)
            if not (result > 1.0).any():
                return result
            dense |= result >= 1.0


class Er(_ErdosRenyi):
    """Erdos-Renyi (Mocanu et al. 2018, "Scalable training of artificial neural networks"): narrow layers are denser.

    Layer density is eps * (in + out) / (in * out), whatever the kernel; a layer that would be denser than 1 is dense,
    and eps is solved again for the others.
    """

    name: Literal["er"] = "er"

    def raw(self, shape: Sequence[int]) -> float:
        out, inputs, *_ = shape
        return (out + inputs) / (out * inputs)


class Erk(_ErdosRenyi):
    """Erdos-Renyi kernel (Evci et al. 2020, "Rigging the Lottery"): small layers are denser.

    Layer density is eps * (in + out + height + width) / (in * out * height * width); a layer that would be denser
    than 1 is dense, and eps is solved again for the others.
    """

    name: Literal["erk"] = "erk"

    def raw(self, shape: Sequence[int]) -> float:
        return float(sum(shape) / np.prod(shape))


Around = Literal["uniform", "er", "erk"]
_CENTRES: Mapping[Around, _Density] = {"uniform": Uniform(), "er": Er(), "erk": Erk()}


class Noisy(_Density):
    """Every layer draws its density around that of another allocation: times u, uniform in [1 - noise, 1 + noise].

    A draw counts only if the overall density lies in [0.98, 1] of the target (FedTiny's candidate pool).
    """

    name: Literal["noisy"] = "noisy"
    noise: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Half-width of the draw, as a share of a layer's density; 0 is the allocation itself."""
    around: Around = "uniform"
    """The allocation to draw around: uniform, er or erk."""

    def densities(self, shapes: Shapes, density: float, rng: np.random.Generator) -> Floats:
        share = _sizes(shapes) / _sizes(shapes).sum()
        centre = _CENTRES[self.around].densities(shapes, density, rng)
        if self.noise == 0:
            return centre
        best = np.empty(0)
        for _ in range(100):
            draws = np.minimum(centre * rng.uniform(1 - self.noise, 1 + self.noise, (1000, len(shapes))), 1.0)
            overall = draws @ share / density
            accepted = np.flatnonzero((overall >= 0.98) & (overall <= 1.0))
            if len(accepted):
                return np.asarray(draws[accepted[0]])
            best = draws[np.argmin(np.abs(overall - 0.99))]
        # Near density 1 the cap leaves hardly a draw that fits: scale the closest one down to the target.
        return np.asarray(best * min(1.0, density / float(best @ share)))


Allocation = Annotated[Uniform | Er | Erk | Noisy, Field(discriminator="name")]
