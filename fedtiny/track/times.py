"""Where the time of a run went, as a person reads it."""

from collections.abc import Mapping

from fedtiny.table import Table

__all__ = ["time_table"]

_DRIVER = {
    "start": "starting Ray and its actors, as far as nothing else was done meanwhile",
    "select": "pretraining and the choice of the first mask, clients' work included",
    "put": "putting orders where actors find them",
    "wait": "clients' work in the rounds: nothing to fold yet",
    "fold": "reading, checking and aggregating uploads, moving the mask",
    "evaluate": "testing the aggregate",
    "log": "records, checkpoints, W&B",
    "other": "the rest",
}
_PLACES = {
    "start": "starting actors, while clients waited for them",
    "load": "putting the order's weights into the network",
    "train": "training and measuring",
    "pack": "encoding the upload",
    "queue": "handing a client out and its reply back",
    "failed": "tries that came to nothing",
    "idle": "nothing to do: no client left, or the driver busy",
}


def time_table(summary: Mapping[str, object]) -> Table:
    """Where the time of a run went: the driver's, and that of the places where clients run."""
    told = summary["time"]
    assert isinstance(told, Mapping)
    rows: list[tuple[str, str, str, str]] = []
    for who, words in (("driver", _DRIVER), ("clients", _PLACES)):
        seconds = {kind: max(0.0, told[who].get(kind, 0.0)) for kind in words}
        total = max(1e-9, sum(seconds.values()))
        rows += [
            (f"{who}: {kind}", f"{x:.2f}", f"{100 * x / total:.1f} %", words[kind]) for kind, x in seconds.items() if x
        ]
    return Table("Where the time goes", ("", "seconds", "share", ""), tuple(rows))
