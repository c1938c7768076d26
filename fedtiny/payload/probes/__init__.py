"""The questions a server may ask of a client, and the answers: one file a question.

A client never learns which method runs: it only answers. Every answer says how it looks on the wire.
"""

from typing import Annotated

from pydantic import Field

from fedtiny.payload.probes.accuracy import Accuracy, LocalAccuracy
from fedtiny.payload.probes.base import LARGEST, Demand, Look, Most, Places, Question, Sizes
from fedtiny.payload.probes.batch_norm import BatchNormStatistics, Moments, Statistics
from fedtiny.payload.probes.gradient_flow import GradientFlow
from fedtiny.payload.probes.loss import LocalLoss, Loss
from fedtiny.payload.probes.saliency import Saliency
from fedtiny.payload.probes.scores import Scores
from fedtiny.payload.probes.squared_gradients import SquaredGradients, Squares
from fedtiny.payload.probes.top_gradients import Gradients, TopGradients
from fedtiny.payload.probes.top_indices import Indices, TopIndices

__all__ = [
    "LARGEST",
    "Accuracy",
    "Answer",
    "BatchNormStatistics",
    "Demand",
    "GradientFlow",
    "Gradients",
    "Indices",
    "LocalAccuracy",
    "LocalLoss",
    "Look",
    "Loss",
    "Moments",
    "Most",
    "Places",
    "Probe",
    "Question",
    "Saliency",
    "Scores",
    "Sizes",
    "SquaredGradients",
    "Squares",
    "Statistics",
    "TopGradients",
    "TopIndices",
]

Probe = Annotated[
    BatchNormStatistics
    | GradientFlow
    | LocalAccuracy
    | LocalLoss
    | Saliency
    | SquaredGradients
    | TopGradients
    | TopIndices,
    Field(discriminator="kind"),
]

Answer = Accuracy | Gradients | Indices | Loss | Scores | Statistics
