"""The questions a server may ask of a client, and the answers: one file a question.

A client never learns which method runs: it only answers. Every answer says how it looks on the wire.
"""

from typing import Annotated

from pydantic import Field

from fedtiny.payload.probes.accuracy import Accuracy, LocalAccuracy
from fedtiny.payload.probes.base import Demand, Places, Question, Sizes
from fedtiny.payload.probes.batch_norm import BatchNormStatistics, Moments, Statistics
from fedtiny.payload.probes.loss import LocalLoss, Loss
from fedtiny.payload.probes.scores import Scores
from fedtiny.payload.probes.top_gradients import Gradients, TopGradients

__all__ = [
    "Accuracy",
    "Answer",
    "BatchNormStatistics",
    "Demand",
    "Gradients",
    "LocalAccuracy",
    "LocalLoss",
    "Loss",
    "Moments",
    "Places",
    "Probe",
    "Question",
    "Scores",
    "Sizes",
    "Statistics",
    "TopGradients",
]

Probe = Annotated[BatchNormStatistics | LocalAccuracy | LocalLoss | TopGradients, Field(discriminator="kind")]

Answer = Statistics | Accuracy | Loss | Gradients | Scores
