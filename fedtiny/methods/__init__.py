"""Federated pruning methods: one file a method, strangers to each other. The union is the registry."""

from typing import Annotated

from pydantic import Field

from fedtiny.methods.base import Method, ServerState
from fedtiny.methods.dense import Dense
from fedtiny.methods.fedmef import FedMef
from fedtiny.methods.fedtiny import FedTiny
from fedtiny.methods.static import Static

__all__ = ["AnyMethod", "Dense", "FedMef", "FedTiny", "Method", "ServerState", "Static"]

AnyMethod = Annotated[Dense | FedMef | FedTiny | Static, Field(discriminator="name")]
