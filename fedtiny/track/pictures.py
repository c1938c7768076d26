"""Pictures for places that take only pictures."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from fedtiny.track.record import RoundRecord

__all__ = ["density_heat_map"]


def density_heat_map(records: Sequence[RoundRecord]) -> Image.Image:
    """Density of each layer (rows, from input to output) after each round (columns), on a logarithmic scale."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    names = list(records[0].layer_densities)
    densities = np.array([[x.layer_densities[name] for x in records] for name in names])
    figure = Figure(figsize=(10, 1.5 + 0.3 * len(names)), layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    picture = axes.imshow(densities, aspect="auto", norm="log", interpolation="nearest")
    axes.set_yticks(range(len(names)), [name.removesuffix(".weight") for name in names])
    axes.set_xlabel("round")
    figure.colorbar(picture, label="density")
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
