"""One callback a probe: `callback_for` finds the one that answers it."""

from functools import singledispatch

from fedtiny.client.probes.accuracy import CountCorrect
from fedtiny.client.probes.answering import Answering
from fedtiny.client.probes.batch_norm import CollectStatistics
from fedtiny.client.probes.gradient_flow import CollectGradientFlow
from fedtiny.client.probes.loss import SumLoss
from fedtiny.client.probes.saliency import CollectSaliency
from fedtiny.client.probes.squared_gradients import AccumulateGradients
from fedtiny.client.probes.top_gradients import CollectTopGradients
from fedtiny.client.probes.top_indices import CollectTopIndices
from fedtiny.payload.probes import (
    BatchNormStatistics,
    GradientFlow,
    LocalAccuracy,
    LocalLoss,
    Saliency,
    SquaredGradients,
    TopGradients,
    TopIndices,
)
from fedtiny.sparse.mask import Mask

__all__ = ["Answering", "callback_for"]


@singledispatch
def callback_for(probe: object, mask: Mask | None) -> Answering:
    """The callback that answers `probe` about a network under `mask`."""
    raise NotImplementedError(f"no callback answers {probe!r}")


@callback_for.register
def _(probe: BatchNormStatistics, mask: Mask | None) -> Answering:
    return CollectStatistics()


@callback_for.register
def _(probe: LocalAccuracy, mask: Mask | None) -> Answering:
    return CountCorrect()


@callback_for.register
def _(probe: LocalLoss, mask: Mask | None) -> Answering:
    return SumLoss()


@callback_for.register
def _(probe: GradientFlow, mask: Mask | None) -> Answering:
    assert mask is None
    return CollectGradientFlow(probe)


@callback_for.register
def _(probe: Saliency, mask: Mask | None) -> Answering:
    assert mask is None
    return CollectSaliency(probe)


@callback_for.register
def _(probe: TopGradients, mask: Mask | None) -> Answering:
    assert mask is not None
    return CollectTopGradients(probe.count, mask)


@callback_for.register
def _(probe: TopIndices, mask: Mask | None) -> Answering:
    assert mask is not None
    return CollectTopIndices(probe.count, mask)


@callback_for.register
def _(probe: SquaredGradients, mask: Mask | None) -> Answering:
    return AccumulateGradients(probe)
