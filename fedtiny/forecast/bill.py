"""What a run will cost, each figure named as in `summary.json` where it stands there too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedtiny.forecast.clock import Clock, Seconds
from fedtiny.forecast.rehearsal import Rehearsal
from fedtiny.prepare import Prepared
from fedtiny.server.effort import ACCOUNTINGS

__all__ = ["HOW", "Bill"]

HOW = {
    "measured": "bytes: lengths of encoded messages, from a rehearsal whose clients send back what they received and "
    "make up their answers; a run's differ where they depend on which weights its mask moves",
    "modelled": "FLOPs, client memory, server memory: as in docs/costs.md",
    "estimated": "seconds on this machine: two measured training steps, a line over FLOPs between them, clients' "
    "examples, usable CPUs; start-up apart",
}
"""Where each kind of figure comes from."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What one method's run will cost.

    Attributes:
        prepared: The run.
        rehearsal: How it was played.
        seconds: How long it will take here.
        notes: What a user should know of it.
    """

    prepared: Prepared
    rehearsal: Rehearsal
    seconds: Seconds
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, prepared: Prepared, rehearsal: Rehearsal, dense_seconds: float, notes: Sequence[str] = ()) -> "Bill":
        """The bill of a run that was rehearsed; `dense_seconds` are those of a dense training step."""
        clock = Clock.of(prepared, rehearsal, dense_seconds)
        return cls(prepared, rehearsal, clock.run(prepared, rehearsal), tuple(notes))

    @property
    def name(self) -> str:
        """The method's."""
        return self.prepared.config.method.name

    @property
    def flops_by_round(self) -> dict[str, list[float]]:
        """Of the busiest client of each round, by accounting."""
        examples = self.rehearsal.examples
        told = [x.flops or x.effort.flops(max(examples[k] for k in x.clients)) for x in self.rehearsal.rounds]
        return {x: [flops[x] for flops in told] for x in ACCOUNTINGS}

    def told(self) -> dict[str, object]:
        """Every figure, for machines."""
        rehearsal, begin, network = self.rehearsal, self.rehearsal.begin, self.prepared.network
        rounds = rehearsal.rounds
        up, down = sum(x.upload_bytes for x in rounds), sum(x.download_bytes for x in rounds)
        shares = sum(len(x.clients) for x in rounds)
        mask = rehearsal.state.mask
        return {
            "method": self.name,
            "settings": self.prepared.config.method.model_dump(mode="json"),
            "parameters": network.parameters,
            "prunable": sum(layer.size for layer in network.layers if layer.prunable),
            "density": mask.density if mask else 1.0,
            "upload_bytes": begin.upload_bytes + up,
            "download_bytes": begin.download_bytes + down,
            "selection_bytes": begin.upload_bytes + begin.download_bytes,
            "selection_upload_bytes": begin.upload_bytes,
            "selection_download_bytes": begin.download_bytes,
            "upload_bytes_per_client_round": up / shares,
            "download_bytes_per_client_round": down / shares,
            "flops_per_round_max": {x: max(flops) for x, flops in self.flops_by_round.items()},
            "flops_total": {x: sum(flops) for x, flops in self.flops_by_round.items()},
            "dense_flops_per_round_max": max(
                x.effort.dense_flops(max(rehearsal.examples[k] for k in x.clients)) for x in rounds
            ),
            "selection_flops_max": begin.measuring_flops_max,
            "begin_flops_max": rehearsal.begin_flops,
            "memory_bytes_max": max(x.effort.memory_bytes for x in rounds),
            "activation_bytes_max": max(x.effort.activation_bytes for x in rounds),
            "server_state_bytes": max(x.state_bytes for x in rounds),
            "server_aggregation_bytes": max(x.held_bytes for x in rounds),
            "seconds": self._told_seconds(),
            "simulated_seconds": _total(begin.simulated_seconds, [x.simulated_seconds for x in rounds]),
            "joules": _total(begin.joules, [x.joules for x in rounds]),
            "engine": self.prepared.choice.reason,
            "rounds": len(rounds),
            "rounds_played": rehearsal.played,
            "notes": list(self.notes),
        }

    def _told_seconds(self) -> Mapping[str, float]:
        x = self.seconds
        return {
            "total": x.total,
            "pretraining": x.pretraining,
            "begin": x.begin,
            "rounds": x.rounds,
            "evaluation": x.evaluation,
            "server": x.server,
        }


def _total(before: float, rounds: Sequence[float | None]) -> float | None:
    told = [x for x in rounds if x is not None]
    return before + sum(told) if told else None
