"""Federated pruning methods: one file a method, strangers to each other. The union is the registry."""

from typing import Annotated

from pydantic import Field

from fedtiny.methods.base import Method, ServerState
from fedtiny.methods.dense import Dense
from fedtiny.methods.feddst import FedDST
from fedtiny.methods.fedmef import FedMef
from fedtiny.methods.fedrts import FedRTS
from fedtiny.methods.fedsgc import FedSGC
from fedtiny.methods.fedtiny import FedTiny
from fedtiny.methods.fl_pqsu import FlPqsu
from fedtiny.methods.grasp import Grasp
from fedtiny.methods.lotteryfl import LotteryFL
from fedtiny.methods.prunefl import PruneFL
from fedtiny.methods.small_dense import SmallDense
from fedtiny.methods.snip import Snip
from fedtiny.methods.static import Static
from fedtiny.methods.synflow import SynFlow

__all__ = [
    "AnyMethod",
    "Dense",
    "FedDST",
    "FedMef",
    "FedRTS",
    "FedSGC",
    "FedTiny",
    "FlPqsu",
    "Grasp",
    "LotteryFL",
    "Method",
    "PruneFL",
    "ServerState",
    "SmallDense",
    "Snip",
    "Static",
    "SynFlow",
]

AnyMethod = Annotated[
    Dense
    | FedDST
    | FedMef
    | FedRTS
    | FedSGC
    | FedTiny
    | FlPqsu
    | Grasp
    | LotteryFL
    | PruneFL
    | SmallDense
    | Snip
    | Static
    | SynFlow,
    Field(discriminator="name"),
]
