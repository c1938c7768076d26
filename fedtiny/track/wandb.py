"""Weights & Biases: one run, written by the driver alone; the only place where wandb is imported.

W&B never decides whether a run lives: whatever it raises ends the tracking after one line, not the run.
"""

import netrc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Literal, ParamSpec
from urllib.parse import urlparse

from fedtiny.table import Table
from fedtiny.track.pictures import density_heat_map
from fedtiny.track.record import RoundRecord, Start
from fedtiny.track.sinks import Sink

if TYPE_CHECKING:
    import wandb

__all__ = ["Wandb", "logged_in"]

P = ParamSpec("P")


def logged_in() -> bool:
    """True if W&B would find an API key, in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _never_fatal(verb: Callable[P, None]) -> Callable[P, None]:
    """Turns whatever `verb` raises into one line, after which the sink is silent."""

    @wraps(verb)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        (sink, *_) = args
        assert isinstance(sink, Wandb)
        if sink.broken:
            return
        try:
            verb(*args, **kwargs)
        except Exception as error:
            sink.broken = True
            reason = " ".join(str(error).split())
            print(
                f"W&B: tracking stops here, the run goes on ({type(error).__name__}: {reason})",
                file=sys.stderr,
            )

    return guarded


class Wandb(Sink):
    """One W&B run, with rounds as its x axis; offline unless the user is logged in.

    Attributes:
        broken: True once W&B has raised; nothing is sent to it any more.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        config: Mapping[str, object],
        mode: Literal["auto", "offline"],
        project: str,
        group: str | None,
    ) -> None:
        """Names the run; W&B is imported at the start.

        Args:
            folder: The run's folder; W&B writes to its `wandb/`.
            name: The run's name.
            config: The whole configuration.
            mode: auto is online if the user is logged in; offline never touches the network.
            project: W&B project.
            group: W&B group, if any.
        """
        self._folder, self._name, self._config = folder, name, config
        self._mode, self._project, self._group = mode, project, group
        self._run: wandb.Run | None = None
        self._records: list[RoundRecord] = []
        self.broken = False

    @_never_fatal
    def start(self, start: Start) -> None:
        import wandb

        said = os.environ.get("WANDB_MODE", "online")
        if said == "disabled":
            self.broken = True  # as good as: nothing more is told
            return
        online = self._mode == "auto" and logged_in() and said == "online"
        modes: list[Literal["online", "offline"]] = ["online", "offline"] if online else ["offline"]
        for mode in modes:
            try:
                self._run = wandb.init(
                    project=self._project,
                    group=self._group,
                    name=self._name,
                    dir=self._folder,
                    config=dict(self._config),
                    mode=mode,
                    settings=wandb.Settings(
                        silent=True,
                        console="off",
                        disable_git=True,
                        disable_code=True,
                        x_disable_stats=True,
                        init_timeout=30,
                        finish_timeout=60,
                        finish_timeout_raises=False,
                    ),
                )
                break
            except wandb.errors.Error:
                if mode == modes[-1]:
                    raise  # Online failed: the network may be down, so try offline first.
        assert self._run is not None
        self._run.define_metric("round")
        self._run.define_metric("*", step_metric="round")

    @_never_fatal
    def found(self, tables: Sequence[Table]) -> None:
        import wandb

        assert self._run is not None
        for table in tables:
            columns: list[str | int] = [*table.columns, "chosen"]
            rows = [[*row, i == table.chosen] for i, row in enumerate(table.rows)]
            self._run.log({table.title.lower(): wandb.Table(columns=columns, data=rows)})

    def resumed(self, records: Sequence[RoundRecord]) -> None:
        for record in records:  # A run of W&B's own begins anew: it is to be complete.
            self.round(record)

    @_never_fatal
    def round(self, record: RoundRecord) -> None:
        assert self._run is not None
        self._records.append(record)
        flat = {k: v for k, v in asdict(record).items() if isinstance(v, int | float)}
        for name, density in record.layer_densities.items():
            flat[f"layer_density/{name}"] = density
        for accounting, flops in record.flops.items():
            flat[f"flops/{accounting}"] = flops
        flat["exchanged"] = sum(record.exchanged.values())
        self._run.log(flat)

    @_never_fatal
    def finish(self, summary: Mapping[str, object]) -> None:
        import wandb

        assert self._run is not None
        if self._records:
            self._run.log({"layer_densities": wandb.Image(density_heat_map(self._records))})
        self._run.summary.update(dict(summary))
        self._run.finish()
        self._run = None

    @_never_fatal
    def close(self) -> None:
        if self._run is not None:
            self._run.finish(exit_code=1)
