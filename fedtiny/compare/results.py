"""All cells of a comparison, and what is asked of them together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedtiny.compare.grid import Grid
from fedtiny.compare.row import Row
from fedtiny.compare.statistics import Interval, Paired, interval, mean_ranks, paired

__all__ = ["Results"]


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """The grid and a row for each of its cells.

    Attributes:
        grid: What was compared.
        rows: What each cell came to, failed ones too.
    """

    grid: Grid
    rows: Sequence[Row]

    @property
    def failed(self) -> list[Row]:
        """Cells without a result."""
        return [row for row in self.rows if row.failure]

    @property
    def densities(self) -> tuple[float | None, ...]:
        """The densities to show, in their order; without any, the methods are compared as they are."""
        return self.grid.densities or (None,)

    @property
    def pruned(self) -> tuple[str, ...]:
        """The methods that are compared at each density."""
        return tuple(label for label in self.grid.labels if label not in self.grid.references)

    def of(self, label: str, density: float | None) -> list[Row]:
        """The finished rows of a method, in the order of seeds; one that has no density is the same at each."""
        at = None if label in self.grid.references else density
        return [row for row in self.rows if row.label == label and row.density == at and not row.failure]

    def by_seed(self, label: str, density: float | None, figure: str) -> dict[int, float]:
        """Seed -> figure, of those that have it."""
        told = {row.seed: row.figures[figure] for row in self.of(label, density)}
        return {seed: x for seed, x in told.items() if x is not None}

    def interval(self, label: str, density: float | None, figure: str) -> Interval | None:
        """The mean over seeds; None without any."""
        values = list(self.by_seed(label, density, figure).values())
        return interval(values) if values else None

    def best(self, density: float | None, figure: str) -> tuple[str, ...]:
        """The methods with the largest mean at a density, as far as anybody can see: two digits of a percent."""
        means = {x: told.mean for x in self.pruned if (told := self.interval(x, density, figure)) is not None}
        if len(means) < 2:
            return ()
        most = round(100 * max(means.values()), 2)
        return tuple(label for label, mean in means.items() if round(100 * mean, 2) == most)

    def ranks(self, figure: str) -> tuple[dict[str, float], int]:
        """The average rank of each method over (density, seed), and how many blocks had all methods."""
        blocks = []
        for density in self.grid.densities:
            told = {label: self.by_seed(label, density, figure) for label in self.pruned}
            for seed in self.grid.seeds:
                if told and all(seed in values for values in told.values()):
                    blocks.append({label: values[seed] for label, values in told.items()})
        return (mean_ranks(blocks) if blocks else {}), len(blocks)

    def against(self, label: str, density: float | None, figure: str) -> Paired | None:
        """A method against the reference at a density, over the seeds that both have; None without any."""
        return _paired(self.by_seed(label, density, figure), self.by_seed(self.grid.reference, density, figure))

    def against_overall(self, label: str, figure: str) -> Paired | None:
        """The same of the means over all densities: a seed is one pair, since its densities share data and weights."""
        return _paired(self._over_densities(label, figure), self._over_densities(self.grid.reference, figure))

    def _over_densities(self, label: str, figure: str) -> dict[int, float]:
        told = [self.by_seed(label, density, figure) for density in self.densities]
        seeds = [seed for seed in self.grid.seeds if all(seed in values for values in told)]
        return {seed: sum(values[seed] for values in told) / len(told) for seed in seeds}


def _paired(values: Mapping[int, float], reference: Mapping[int, float]) -> Paired | None:
    seeds = [seed for seed in values if seed in reference]
    return paired([values[x] for x in seeds], [reference[x] for x in seeds]) if seeds else None
