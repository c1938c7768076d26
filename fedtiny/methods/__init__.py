"""Federated pruning methods: one file a method, strangers to each other. The union is the registry."""

from typing import Annotated

from pydantic import Field

from fedtiny.methods.base import Method, ServerState
from fedtiny.methods.dense import Dense
from fedtiny.methods.fedrts import FedRTS
from fedtiny.methods.fedtiny import FedTiny
from fedtiny.methods.prunefl import PruneFL
from fedtiny.methods.static import Static

__all__ = ["AnyMethod", "Dense", "FedRTS", "FedTiny", "Method", "PruneFL", "ServerState", "Static"]

AnyMethod = Annotated[Dense | FedRTS | FedTiny | PruneFL | Static, Field(discriminator="name")]
