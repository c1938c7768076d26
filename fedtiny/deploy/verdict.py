"""Whether a run's budget is met by what was measured, not only by what was foreseen."""

from collections.abc import Sequence

from fedtiny.config.budget import Budget
from fedtiny.deploy.row import Row

__all__ = ["verdict"]


def verdict(budget: Budget | None, rows: Sequence[Row]) -> list[str]:
    """A line that says whether the C program keeps to the budget's flash and RAM; none where there is no such limit.

    Args:
        budget: The run's.
        rows: What was measured of the exported files.
    """
    limits = {} if budget is None else {"flash_bytes": budget.flash_bytes, "ram_bytes": budget.ram_bytes}
    if budget is None or not any(limits.values()):
        return []
    name = f"c {budget.values}"
    row = next((row for row in rows if row.name == name), None)
    if row is None:
        return [f"budget: not measured: it is of {name}; add --format c --values {budget.values}"]
    took = {"flash_bytes": row.flash_bytes, "ram_bytes": row.ram_bytes}
    if None in took.values():
        return ["budget: not measured: that needs arm-none-eabi-gcc (apt-get install gcc-arm-none-eabi)"]
    told, over = [], False
    for limit, most in limits.items():
        if most is not None and (found := took[limit]) is not None:
            told.append(f"{limit} {found:,} of {most:,}{' (over)' if found > most else ''}")
            over |= found > most
    return [f"budget: {'not met' if over else 'met'} by {name}, measured in a Cortex-M4: {', '.join(told)}"]
