"""Federated pruning methods: one file a method, strangers to each other. The union is the registry."""

from typing import Annotated

from pydantic import Field

from fedtiny.methods.base import Method, ServerState
from fedtiny.methods.dense import Dense
from fedtiny.methods.fedtiny import FedTiny
from fedtiny.methods.one_shot import OneShot
from fedtiny.methods.readjusting import Readjusting
from fedtiny.methods.small_dense import SmallDense
from fedtiny.methods.static import Static

__all__ = [
    "AnyMethod",
    "Dense",
    "FedTiny",
    "Method",
    "OneShot",
    "Readjusting",
    "ServerState",
    "SmallDense",
    "Static",
]

AnyMethod = Annotated[Dense | FedTiny | OneShot | Readjusting | SmallDense | Static, Field(discriminator="name")]
