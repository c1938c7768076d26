"""Federated pruning methods: one file a method, strangers to each other. The union is the registry."""

from typing import Annotated

from pydantic import Field

from fedtiny.methods.base import Method, ServerState
from fedtiny.methods.dense import Dense
from fedtiny.methods.fedtiny import FedTiny
from fedtiny.methods.fl_pqsu import FlPqsu
from fedtiny.methods.lotteryfl import LotteryFL
from fedtiny.methods.static import Static

__all__ = ["AnyMethod", "Dense", "FedTiny", "FlPqsu", "LotteryFL", "Method", "ServerState", "Static"]

AnyMethod = Annotated[Dense | FedTiny | FlPqsu | LotteryFL | Static, Field(discriminator="name")]
