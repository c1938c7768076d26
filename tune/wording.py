"""Figures and settings as a person reads them."""

from collections.abc import Mapping

from tune.trial import Knob

__all__ = ["brief", "named", "number", "scaled", "shown", "words"]

_TITLES: Mapping[str, str] = {
    "test_accuracy": "test accuracy, %",
    "validation_accuracy": "validation accuracy, %",
    "upload_bytes": "bytes up, all clients (measured)",
    "download_bytes": "bytes down, all clients (measured)",
    "bytes": "bytes up and down, all clients (measured)",
    "density": "density of prunable weights",
    "density_all": "density of all parameters",
    "memory_bytes": "client memory beyond activations, bytes (modelled)",
    "memory_bytes_max": "client memory beyond activations, bytes (modelled)",
    "driver_peak_bytes": "memory of the driver's process, bytes (measured)",
    "flops": "FLOPs of the busiest client, whole run (modelled)",
    "seconds": "wall-clock seconds (measured)",
    "simulated_seconds": "simulated seconds (modelled)",
    "joules": "energy in joules (modelled)",
}


def named(figure: str) -> str:
    """A figure's name with its unit, for an axis."""
    if figure in _TITLES:
        return _TITLES[figure]
    name = figure.replace("_", " ").replace("/", ", ")
    if "accuracy" in figure:
        return f"{name}, %"
    return f"{name} (modelled)" if "flops" in figure else name


def brief(figure: str) -> str:
    """A figure's name without its unit, for a column."""
    return figure if figure.startswith("density") else named(figure).partition(" (")[0].partition(",")[0]


def scaled(figure: str, value: float) -> float:
    """The value in the unit of its title: accuracies in percent."""
    return 100 * value if "accuracy" in figure else value


def shown(figure: str, value: float | None) -> str:
    """The value for a table."""
    if value is None:
        return ""
    return f"{100 * value:.2f} %" if "accuracy" in figure else number(value)


def number(value: float) -> str:
    """Few digits: 0.0123, 1234 or 1.23M."""
    if abs(value) >= 1e4:  # first, so that 999999 is 1M and not 1000k
        value = float(f"{value:.3g}")
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g}{unit}"
    return f"{value:.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"


def words(value: Knob) -> str:
    """A setting for a table or an axis."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)
