"""Federated pruning methods: one file a method, strangers to each other. The union is the registry."""

from typing import Annotated

from pydantic import Field

from fedtiny.methods.base import Method, ServerState
from fedtiny.methods.dense import Dense
from fedtiny.methods.fedtiny import FedTiny
from fedtiny.methods.grasp import Grasp
from fedtiny.methods.small_dense import SmallDense
from fedtiny.methods.snip import Snip
from fedtiny.methods.static import Static
from fedtiny.methods.synflow import SynFlow

__all__ = [
    "AnyMethod",
    "Dense",
    "FedTiny",
    "Grasp",
    "Method",
    "ServerState",
    "SmallDense",
    "Snip",
    "Static",
    "SynFlow",
]

AnyMethod = Annotated[Dense | FedTiny | Grasp | SmallDense | Snip | Static | SynFlow, Field(discriminator="name")]
