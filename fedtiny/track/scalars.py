"""What dashboards draw: plain numbers with plain names."""

from collections.abc import Mapping
from dataclasses import asdict

from fedtiny.track.record import RoundRecord

__all__ = ["Scalars", "flat"]


class Scalars:
    """Makes numbers of records, and adds up what the rounds have cost so far.

    A round gives every number of its record; how many clients were asked and dropped, and how many weights moved;
    `layer_density/LAYER`, `flops/ACCOUNTING`; and `so_far/bytes`, `so_far/upload_bytes`, `so_far/download_bytes`,
    `so_far/flops_ACCOUNTING`, `so_far/seconds`: sums over the rounds up to this one, without the selection.

    Attributes:
        spent: These sums, after the last round.
    """

    def __init__(self) -> None:
        """Nothing was spent yet."""
        self.spent: dict[str, float] = {}

    def of(self, record: RoundRecord) -> dict[str, float]:
        """The numbers of the next round; a round that was not evaluated has no accuracies."""
        told: dict[str, float] = {k: v for k, v in asdict(record).items() if isinstance(v, int | float)}
        told |= {"clients": len(record.clients), "dropped": len(record.dropped)}
        told |= {"exchanged": sum(record.exchanged.values())}
        told |= {f"layer_density/{name}": density for name, density in record.layer_densities.items()}
        told |= {f"flops/{accounting}": flops for accounting, flops in record.flops.items()}
        costs = {
            "bytes": record.upload_bytes + record.download_bytes,
            "upload_bytes": record.upload_bytes,
            "download_bytes": record.download_bytes,
            **{f"flops_{accounting}": flops for accounting, flops in record.flops.items()},
            "seconds": record.seconds,
        }
        self.spent = {f"so_far/{k}": self.spent.get(f"so_far/{k}", 0) + v for k, v in costs.items()}
        return told | self.spent


def flat(told: Mapping[str, object], joint: str = "/") -> dict[str, int | float | str | bool]:
    """Numbers and words of a nested mapping, keys joined; lists and what is None are left out."""
    found: dict[str, int | float | str | bool] = {}
    for key, value in told.items():
        if isinstance(value, Mapping):
            found |= {f"{key}{joint}{k}": v for k, v in flat(value, joint).items()}
        elif isinstance(value, int | float | str):
            found[key] = value
    return found
