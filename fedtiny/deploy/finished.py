"""A finished run, as what deployment needs of it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import nn

from fedtiny.config.load import ConfigError, load
from fedtiny.config.schema import RunConfig
from fedtiny.data.examples import Examples
from fedtiny.deploy.pixels import pixels
from fedtiny.export.graph import Floats, Graph
from fedtiny.export.reason import reason
from fedtiny.export.trace import trace
from fedtiny.models.zoo import AnyModel
from fedtiny.server.model_file import load_model
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.engine.resident import Resident
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Weights

__all__ = ["Finished", "finished"]

_CALIBRATION = 256


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """A run's network and data.

    Attributes:
        config: The run's configuration.
        examples: Its data set.
        model: The network's architecture.
        weights: The final weights; pruned ones are 0.
        mask: Which are kept; None if nothing was pruned.
        personal: Whether clients have masks of their own over these weights.
    """

    config: RunConfig
    examples: Examples
    model: AnyModel
    weights: Weights
    mask: Mask | None
    personal: bool

    @property
    def module(self) -> nn.Module:
        """The network in evaluation mode, dense, with the final weights; a new one each time."""
        channels, *_ = self.examples.shape
        module = self.model.build(channels, len(self.examples.classes), 0)
        return Resident(module, Engine(name="dense")).holding(self.weights, self.mask)

    @property
    def graph(self) -> Graph:
        """The network with batch norm folded, dead channels still in it; traced anew each time."""
        return trace(self.module, self.examples.shape, self.config.data.mean, self.config.data.std)

    @property
    def dense_bytes(self) -> int:
        """Of all weights in float32, pruned ones included."""
        return 4 * sum(x.numel() for x in self.weights.values())

    def test(self, count: int | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """(N, C, H, W) test pictures and (N,) labels: all, or so many spread evenly, as classes may lie in order."""
        images, labels = self.examples.test_images, self.examples.test_labels
        if count is None or count >= len(labels):
            return images, labels
        chosen = np.arange(count) * len(labels) // count
        return images[chosen], labels[chosen]

    def calibration(self) -> Floats:
        """(N, C, H, W) float32 pixels in [0, 1]: up to 256 pictures that clients trained on."""
        config, examples = self.config, self.examples
        shares = config.split.deal(examples.labels, config.partition, config.clients, config.seed)
        chosen = np.random.default_rng(0).permutation(np.concatenate(shares.clients))[:_CALIBRATION]
        return pixels(examples.images[np.sort(chosen)])


def finished(folder: Path) -> Finished:
    """The run in a folder.

    Raises:
        ConfigError: There is none, it is not finished, or its data set is gone.
    """
    if not (folder / "config.yaml").is_file():
        raise ConfigError([f"{folder}: holds no run (there is no config.yaml); name a run's folder"])
    if not (folder / "summary.json").is_file():
        raise ConfigError([f"{folder}: this run is not finished; go on with: python -m fedtiny resume {folder}"])
    config = load([folder / "config.yaml"])
    try:
        weights, mask, about = load_model(folder / "model.safetensors")
        model: AnyModel = TypeAdapter(AnyModel).validate_python(about["model"])
    except Exception as error:  # a broken file of safetensors raises what shares no base
        broken = f"{folder / 'model.safetensors'}: cannot be read ({reason(error)}); make the run again"
        raise ConfigError([broken]) from None
    try:
        examples = config.data.load()
    except ValueError as error:
        raise ConfigError([f"data: {error}"]) from error
    return Finished(config, examples, model, weights, mask, (folder / "personal.safetensors").is_file())
