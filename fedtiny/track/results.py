"""A run's result as a person reads it."""

from collections.abc import Callable, Mapping

from fedtiny.table import Table

__all__ = [
    "engine_table",
    "human_bytes",
    "human_flops",
    "human_seconds",
    "number",
    "result_table",
    "rigl_flops",
    "whose",
]


def human_bytes(count: float) -> str:
    """Bytes in decimal units: 1,234,567 is `1.23 MB`."""
    return f"{_scaled(count)}B"


def human_flops(count: float) -> str:
    """FLOPs in decimal units: 1,234,567 is `1.23 MFLOP`."""
    return f"{_scaled(count)}FLOP"


def human_seconds(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _scaled(count: float) -> str:
    for unit in ("", "k", "M", "G", "T"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} P"


def number(summary: Mapping[str, object], key: str) -> float:
    """A figure of the summary, as a number."""
    value = summary[key]
    assert isinstance(value, int | float), key
    return float(value)


def whose(summary: Mapping[str, object]) -> str:
    """Whose models the accuracy is of, where it is not the server's one."""
    return "mean over clients' own models" if summary.get("personal") else ""


def rigl_flops(summary: Mapping[str, object]) -> float:
    """The busiest client's modelled training FLOPs of the costliest round, in the `rigl` accounting."""
    flops = summary["flops_per_round_max"]
    assert isinstance(flops, Mapping)
    return float(flops["rigl"])


def result_table(summary: Mapping[str, object]) -> Table:
    """What a run came to, beside what a dense model costs where that is known."""

    def of(key: str) -> float:
        return number(summary, key)

    def share(part: float, whole: float) -> str:
        return f"{100 * part / whole:.3g} %"

    kept = round(of("density") * of("prunable"))
    rows: tuple[tuple[str, str, str], ...] = (
        ("test accuracy", f"{100 * of('test_accuracy'):.2f} %", whose(summary)),
        ("density", f"{100 * of('density'):.3g} %", f"{kept:,} of {of('prunable'):,.0f} prunable weights"),
        ("density of all parameters", f"{100 * of('density_all'):.3g} %", f"of {of('reference_parameters'):,.0f}"),
        (
            "uploaded (measured)",
            human_bytes(of("upload_bytes")),
            f"{share(of('upload_bytes'), of('dense_upload_bytes'))} of dense",
        ),
        (
            "downloaded (measured)",
            human_bytes(of("download_bytes")),
            f"{share(of('download_bytes'), of('dense_upload_bytes'))} of dense",
        ),
        ("of which selection", human_bytes(of("selection_bytes")), "both directions"),
        (
            "FLOPs a client and round (modelled, rigl)",
            human_flops(rigl_flops(summary)),
            f"{share(rigl_flops(summary), of('dense_flops_per_round_max'))} of dense",
        ),
        ("memory a client (modelled)", human_bytes(of("memory_bytes_max")), "beyond activations"),
        ("seconds", f"{of('seconds'):.1f}", f"{of('rounds'):.0f} rounds"),
    )
    if of("dropped"):
        rows += (("clients dropped", f"{of('dropped'):.0f}", f"{of('refused'):.0f} of them by a refused upload"),)
    if summary["simulated_seconds"] is not None:
        rows += (
            ("simulated time (modelled)", human_seconds(of("simulated_seconds")), "on the devices as described"),
            ("energy (modelled)", f"{_scaled(of('joules'))}J", "of all devices asked"),
        )
    return Table(f"{summary['method']} on {of('clients'):.0f} clients", ("figure", "value", ""), rows)


def engine_table(summary: Mapping[str, object]) -> Table | None:
    """What a training step costs dense and sparse, as it was measured; None if it was not."""
    told = summary["engine"]
    assert isinstance(told, Mapping)
    if "speedup" not in told:
        return None

    def row(what: str, key: str, show: Callable[[float], str]) -> tuple[str, str, str, str]:
        dense, sparse = number(told, f"dense_{key}"), number(told, f"sparse_{key}")
        return what, show(dense), show(sparse), f"{dense / max(sparse, 1e-9):.1f} times less"

    return Table(
        title="Engine",
        columns=("a training step", "dense PyTorch", "sparse engine", ""),
        rows=(
            row("time", "seconds", lambda x: f"{1e3 * x:.3g} ms"),
            row("memory beyond activations", "bytes", human_bytes),
            row("memory at the peak", "peak_bytes", human_bytes),
        ),
    )
