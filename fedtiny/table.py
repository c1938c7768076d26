"""A small titled table: how a method tells what it found, without knowing who will show it."""

from dataclasses import dataclass

__all__ = ["Table"]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of numbers or words under named columns.

    Attributes:
        title: What the table shows.
        columns: One heading a column.
        rows: One tuple a row, as long as `columns`.
        chosen: The row that won; None where nothing was chosen.
        text: What a reader needs to know to understand it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]
    chosen: int | None = None
    text: str = ""
