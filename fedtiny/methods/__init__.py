"""Federated pruning methods: one file a method, strangers to each other. The union is the registry."""

from typing import Annotated

from pydantic import Field

from fedtiny.methods.base import Method, ServerState
from fedtiny.methods.dense import Dense
from fedtiny.methods.feddst import FedDST
from fedtiny.methods.fedsgc import FedSGC
from fedtiny.methods.fedtiny import FedTiny
from fedtiny.methods.static import Static

__all__ = ["AnyMethod", "Dense", "FedDST", "FedSGC", "FedTiny", "Method", "ServerState", "Static"]

AnyMethod = Annotated[Dense | FedDST | FedSGC | FedTiny | Static, Field(discriminator="name")]
