"""What methods share that choose one mask before training and never change it."""

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedtiny.methods.average import WeightedMean
from fedtiny.methods.base import Density, Method, ServerState
from fedtiny.payload.fleet import Federation
from fedtiny.payload.messages import SERVER, Order
from fedtiny.payload.probes import Probe, Scores
from fedtiny.sparse.allocate import Uniform
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network
from fedtiny.sparse.select import keep_top, keep_top_overall
from fedtiny.table import Table

__all__ = ["Asking", "OneShot"]


class OneShot(Method):
    """One mask before training, of exactly the density asked for, in which no layer is empty."""

    name: str
    density: Density = 0.01
    """Kept / prunable weights, in (0, 1]; never exceeded."""

    @property
    def target(self) -> float:
        return self.density

    def counts(self, network: Network) -> dict[str, int]:
        """Weights to keep in each layer if all are equally dense; together, what there is to keep anywhere."""
        return Uniform().counts(network.prunable, self.density, np.random.default_rng(0))  # which it does not draw of

    def under(self, network: Network, mask: Mask) -> ServerState:
        """The network's weights under the mask, before the first round."""
        weights = dict(network.weights)
        mask.apply_(weights)
        return ServerState(0, weights, mask)

    def rests(self, round: int) -> bool:
        return True

    def check(self, network: Network, rng: np.random.Generator) -> None:
        self.counts(network)

    def findings(self, network: Network, state: ServerState) -> tuple[Table, ...]:
        assert state.mask is not None
        kept = {name: (int(keep.sum()), keep.numel()) for name, keep in state.mask.keep.items()}
        rows = tuple((name, size, count, count / size) for name, (count, size) in kept.items())
        single = sum(count == 1 < size for count, size in kept.values())
        text = (
            "Where the mask keeps weights. Every layer keeps one at least, or nothing would pass it; "
            f"{single or 'no'} layer{'' if single == 1 else 's'} of {len(kept)} kept no more than that."
        )
        return (Table("Layers", ("layer", "weights", "kept", "density"), rows, text=text),)


class Asking(OneShot):
    """Scores all weights by a question that is asked once, of the server itself or of every client."""

    scope: Literal["global", "layer"] = "global"
    """Where scores compete: all weights of the network (as published), or each layer's with as many as any other's."""
    scorer: Literal["server", "clients"] = "server"
    """Who scores: the server on its public examples, or every client on its own, which costs a dense exchange."""
    batches: Annotated[int, Field(ge=1)]
    """Batches that a scorer looks at, drawn at random; fewer where it has too few examples."""
    batch: Annotated[int, Field(ge=2)]
    """Examples of such a batch."""

    @property
    def public(self) -> int:
        return 2 if self.scorer == "server" else 0

    def question(self, layers: tuple[str, ...]) -> Probe:
        """What is asked about these parameters."""
        raise NotImplementedError

    def ranked(self, score: Tensor) -> Tensor:
        """The scores of one layer so that the highest are kept."""
        return score

    def begin(self, network: Network, fleet: Federation, rng: np.random.Generator) -> ServerState:
        counts = self.counts(network)
        scores = {name: self.ranked(score) for name, score in self.scores(network, fleet).items()}
        layerwise = self.scope == "layer"
        mask = keep_top(scores, counts) if layerwise else keep_top_overall(scores, sum(counts.values()))
        return self.under(network, mask)

    def scores(self, network: Network, fleet: Federation) -> dict[str, Tensor]:
        """Parameter -> its weights' scores: the mean over who is asked, weighted by examples, in any order."""
        shapes = network.prunable
        order = Order(-1, network.weights, None, None, (self.question(tuple(shapes)),))
        mean = WeightedMean()
        for upload in fleet.ask(order, [SERVER] if self.scorer == "server" else range(fleet.size)):
            (answer,) = upload.answers
            assert isinstance(answer, Scores)
            mean.add(torch.cat([answer.layers[name] for name in shapes]), upload.examples)
        parts = mean.result().split([torch.Size(shape).numel() for shape in shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
