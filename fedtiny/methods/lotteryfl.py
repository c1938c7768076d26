"""LotteryFL: every client finds a winning ticket of its own; or, as a rival of FedTiny, all find one together.

Li, Sun, Wang, Duan, Li, Chen and Li, "LotteryFL: Empower Edge Intelligence with Personalized and
Communication-Efficient Federated Learning", SEC 2021.

`personal`: client k owns a mask m_k, at first everything. In a round it takes part in,
1. the server sends theta * m_k; k measures its accuracy on held-out examples, and trains the weights of m_k;
2. for every weight j, theta_j := the mean of theta_kj over the clients with m_kj = 1, weighted by examples, or what it
   was where there is none;
3. if k's accuracy was at least `accuracy` and m_k is denser than `density`: in every layer the `rate` of k's weights of
   smallest |theta| leave m_k, but none below `density`; next time k starts from theta_0 * m_k.
The model of client k is theta * m_k.

`personal: false` is what stands for LotteryFL in FedTiny's comparison: one mask for all, magnitude pruning of
theta down to density 1 - (1 - d) (r + 1) / stop_round every `adjust_every` rounds r, in equal shares of every layer.

As deviations from the paper: clients keep no state between rounds, so the server decides, by what k reported, and
sends what differs of the mask. An accuracy measured on rewound weights says nothing of the ticket and does not count:
k prunes at every second participation at most. The published code measures on test data, prunes by it, and reports it;
here held-out training examples decide, until all clients are at `density`. It freezes live weights that cross 0; here
masks are masks. Weights, biases and normalisation are rewound; batch-norm statistics, which are measured, are not.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from fedtiny import seeds
from fedtiny.methods.aggregation import Fold
from fedtiny.methods.average import OwnersMean
from fedtiny.methods.base import Density, Method, ServerState, folded
from fedtiny.payload.fleet import Federation
from fedtiny.payload.messages import Order, Personal, Upload
from fedtiny.payload.probes import Accuracy, LocalAccuracy
from fedtiny.payload.training import Training
from fedtiny.sparse.allocate import Uniform
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, Weights
from fedtiny.sparse.select import keep_top

__all__ = ["LotteryFL"]

_PERSONAL = ("rate", "accuracy", "holdout")
_SHARED = ("adjust_every", "stop_round")


class LotteryFL(Method):
    """Lottery tickets, one a client or one for all (Li et al., SEC 2021)."""

    name: Literal["lotteryfl"] = "lotteryfl"
    density: Density = 0.01
    """Kept / prunable weights that pruning ends at, in (0, 1]; before that it is exceeded."""
    personal: bool = True
    """Whether every client has a mask of its own, as published; otherwise one mask is for all."""
    rewind: bool | None = None
    """Whether kept weights start again from the initial ones after pruning; none is if masks are personal."""
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of a layer's kept weights that a client loses at once; for personal masks."""
    accuracy: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Accuracy on held-out examples that a client must reach to prune; for personal masks."""
    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of a client's training examples that is held out until all are pruned; for personal masks."""
    adjust_every: Annotated[int, Field(ge=1)] = 10
    """Rounds from one pruning to the next; for one mask."""
    stop_round: Annotated[int, Field(ge=1)] = 100
    """Rounds after which the density is reached; for one mask."""

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        fields = type(self).model_fields
        ignored = [x for x in (_SHARED if self.personal else _PERSONAL) if getattr(self, x) != fields[x].default]
        if ignored:
            way_out = f"set personal={str(not self.personal).lower()}, or leave out {', '.join(ignored)}"
            raise ValueError(f"{ignored[0]} means nothing with personal={str(self.personal).lower()}; {way_out}")
        return self

    @classmethod
    def scheduled(cls, told: Mapping[str, object], settings: Mapping[str, object]) -> dict[str, object]:
        personal = settings.get("personal", cls.model_fields["personal"].default)
        return {} if personal else super().scheduled(told, settings)

    @classmethod
    def changes(cls) -> tuple[str, ...]:
        return ()  # the density that a round ends at is told by the whole schedule

    @property
    def target(self) -> float:
        return self.density

    def ceiling(self, round: int) -> float:
        if self.personal:
            return 1.0  # until its client is accurate enough, a mask keeps everything
        if round >= self.stop_round:
            return self.density
        return 1 - (1 - self.density) * (round // self.adjust_every * self.adjust_every) / self.stop_round

    @property
    def folds(self) -> bool:
        return not self.personal

    @property
    def rewinds(self) -> bool:
        """Whether kept weights start again from the initial ones after pruning."""
        return self.personal if self.rewind is None else self.rewind

    def begin(self, network: Network, fleet: Federation, rng: np.random.Generator) -> ServerState:
        return self._first(network, fleet.size)

    def sketch(self, network: Network, rng: np.random.Generator) -> ServerState:
        return self._first(network, 1)

    def check(self, network: Network, rng: np.random.Generator) -> None:
        _counts(network, self.density)

    def _first(self, network: Network, clients: int) -> ServerState:
        memory: dict[str, Tensor] = {}
        if self.rewinds:
            memory = {f"initial/{name}": x.detach().clone() for name, x in network.module.named_parameters()}
        if self.personal:
            memory["unfinished"] = torch.full((clients,), self.density < 1)
            memory["rewound"] = torch.zeros(clients, dtype=torch.bool)
        return ServerState(0, network.weights, None, memory)

    def remarks(self, rounds: int) -> tuple[str, ...]:
        if not self.personal:
            if self.stop_round < rounds:
                return ()
            what = (
                "is never reached" if self.stop_round > rounds else "is reached by the last round, and never trained at"
            )
            return (f"method.density ({self.density:g}) {what}; a method.stop_round below {rounds} avoids it",)
        told = (
            "accuracies, losses and densities are means over clients: each one's own model, on what that client would "
            "meet; they are not to be compared with those of one model for all",
        )
        prunings = math.ceil(math.log(self.density) / math.log(1 - self.rate) - 1e-9)
        needed = 2 * prunings - 1 if self.rewinds else prunings
        if needed < rounds:
            return told
        return (
            *told,
            f"a client that takes part in all of {rounds} rounds does not train at method.density ({self.density:g}): "
            f"{prunings} prunings take {needed}; raise rounds, method.rate or method.density",
        )

    def order(self, network: Network, state: ServerState, training: Training) -> Order:
        order = super().order(network, state, training)
        if not self.personal:
            return order
        start = self._rewound(state) if state.memory["rewound"].any() else state.weights
        own = {
            client: Personal(start if state.memory["rewound"][client] else state.weights, mask)
            for client, mask in _masks(network, state).items()
        }
        if not state.memory["unfinished"].any():
            return replace(order, personal=own)
        return replace(order, personal=own, probes=(LocalAccuracy(),), holdout=self.holdout)

    def models(self, network: Network, state: ServerState) -> Mapping[int, Personal]:
        if not self.personal:
            return {}
        masks = _masks(network, state)
        return {k: Personal(state.weights, masks.get(k)) for k in range(len(state.memory["unfinished"]))}

    def absorb(self, network: Network, state: ServerState, uploads: Iterable[Upload], fold: Fold) -> ServerState:
        if self.personal:
            return self._absorb_owners(network, state, uploads)
        after = replace(state, round=state.round + 1, weights=folded(uploads, fold, state.weights))
        done = after.round
        if done > self.stop_round or (done % self.adjust_every and done != self.stop_round):
            return after
        mask = prune(network, after.mask, after.weights, _counts(network, self.ceiling(done)))
        weights = self._rewound(after) if self.rewinds else after.weights
        return replace(after, mask=mask, weights=Personal(weights, mask).masked)

    def _absorb_owners(self, network: Network, state: ServerState, uploads: Iterable[Upload]) -> ServerState:
        mean: OwnersMean | None = None
        answers: dict[int, Accuracy | None] = {}
        for upload in uploads:
            mean = mean or OwnersMean(upload.packing.layout)
            mean.add(upload)
            answers[upload.client] = next((x for x in upload.answers if isinstance(x, Accuracy)), None)
        assert mean is not None
        weights = mean.result(otherwise=state.weights)
        memory = {**state.memory, **{name: state.memory[name].clone() for name in ("unfinished", "rewound")}}
        masks, least = _masks(network, state), _counts(network, self.density)
        for client in sorted(answers):
            answer = answers[client]
            rewound, memory["rewound"][client] = bool(memory["rewound"][client]), False
            if answer is None or rewound or not memory["unfinished"][client] or not self._is_good(answer):
                continue
            mask = prune(network, masks.get(client), weights, least, self.rate)
            memory |= {f"mask/{client}/{name}": keep for name, keep in mask.keep.items()}
            memory["unfinished"][client] = any(int(keep.sum()) > least[name] for name, keep in mask.keep.items())
            memory["rewound"][client] = self.rewinds
        return replace(state, round=state.round + 1, weights=weights, memory=memory)

    def _is_good(self, answer: Accuracy) -> bool:
        return answer.examples > 0 and answer.correct / answer.examples >= self.accuracy

    def _rewound(self, state: ServerState) -> Weights:
        """The initial weights, with the batch-norm statistics of now."""
        return {name: state.memory.get(f"initial/{name}", x) for name, x in state.weights.items()}


def prune(network: Network, mask: Mask | None, weights: Weights, least: Mapping[str, int], rate: float = 1.0) -> Mask:
    """Takes the kept weights of smallest magnitude out of every layer.

    Args:
        network: The network.
        mask: What is kept so far; None is everything. What it prunes stays pruned.
        weights: Whose magnitudes decide.
        least: Layer -> weights that stay, if there are so many.
        rate: Share of a layer's kept weights that goes, rounded up, as far as `least` allows.
    """
    scores, counts = {}, {}
    for name in network.prunable:
        scores[name] = weights[name].abs()
        kept = scores[name].numel()
        if mask is not None:
            scores[name] = scores[name].masked_fill(~mask.keep[name], -1.0)
            kept = int(mask.keep[name].sum())
        counts[name] = min(kept, max(least[name], kept - math.ceil(rate * kept - 1e-9)))
    return keep_top(scores, counts)


def _counts(network: Network, density: float) -> dict[str, int]:
    """Weights to keep in each layer: equal shares, for which nothing is drawn."""
    return Uniform().counts(network.prunable, density, seeds.stream(0, "equal shares"))


def _masks(network: Network, state: ServerState) -> dict[int, Mask]:
    """The masks of the clients that do not keep everything."""
    clients = sorted({int(name.split("/")[1]) for name in state.memory if name.startswith("mask/")})
    return {k: Mask({name: state.memory[f"mask/{k}/{name}"] for name in network.prunable}) for k in clients}
