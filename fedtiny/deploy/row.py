"""A row of the table that an export ends with."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from fedtiny.table import Table
from fedtiny.track.results import human_bytes

__all__ = ["Row", "remarks", "table_of"]


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of a network in one form; None is what was not, or does not apply.

    Attributes:
        name: The form, such as "c int8".
        file: The file, from the run's folder; empty where there is none.
        bytes: Of the file.
        accuracy: On the test set, in [0, 1].
        difference: Largest difference of a logit from PyTorch's.
        seconds: For one picture, on this machine.
        arena_bytes: The memory in which the C program computes.
        flash_bytes: Of the C program in a Cortex-M4.
        ram_bytes: Of the C program in a Cortex-M4.
        remark: What a reader should know.
    """

    name: str
    file: str = ""
    bytes: int | None = None
    accuracy: float | None = None
    difference: float | None = None
    seconds: float | None = None
    arena_bytes: int | None = None
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    remark: str = ""

    def told(self) -> dict[str, object]:
        """For machines."""
        return asdict(self)


def table_of(rows: Sequence[Row], dense_bytes: int, pictures: int) -> Table:
    """The rows for people.

    Args:
        rows: The rows.
        dense_bytes: Of all weights in float32.
        pictures: How many the accuracy was measured on.
    """

    def size(count: int | None) -> str:
        return "" if count is None else human_bytes(count)

    def share(count: int) -> str:
        percent = 100 * count / dense_bytes
        return f"{percent:.3g} %" if percent < 999.5 else f"{percent:,.0f} %"

    told = tuple(
        (
            row.name,
            size(row.bytes),
            "" if row.bytes is None else share(row.bytes),
            "" if row.accuracy is None else f"{100 * row.accuracy:.2f} %",
            "" if row.difference is None else f"{row.difference:.2g}",
            "" if row.seconds is None else f"{1e3 * row.seconds:.3g}",
            size(row.arena_bytes),
            "" if row.flash_bytes is None else f"{size(row.flash_bytes)}, {size(row.ram_bytes)}",
        )
        for row in rows
    )
    return Table(
        "The exported network",
        (
            "form",
            "file",
            "of dense",
            f"accuracy ({pictures:,})",
            "logits off by",
            "ms a picture",
            "RAM arena",
            "Cortex-M4 flash, RAM",
        ),
        told,
        text=f"Each measured on the file itself, on this machine, on one thread: accuracy on {pictures:,} pictures of "
        f"the test set, the largest difference of a logit from PyTorch's, the median time of a picture by itself. "
        f"Dense is {human_bytes(dense_bytes)}: all weights in float32.",
    )


def remarks(rows: Sequence[Row]) -> list[str]:
    """A line for each row with something to say."""
    return [f"{row.name}: {row.remark}" for row in rows if row.remark]
