"""Weights & Biases: one run, written by the driver alone; the only place where wandb is imported.

W&B never decides whether a run lives: whatever it raises ends the tracking after one line, not the run.
"""

import netrc
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlparse

from fedtiny.table import Table
from fedtiny.track.guarded import Guarded, never_fatal
from fedtiny.track.pictures import density_heat_map
from fedtiny.track.record import RoundRecord, Start
from fedtiny.track.scalars import Scalars, flat

if TYPE_CHECKING:
    import wandb

__all__ = ["Wandb", "logged_in"]


def logged_in() -> bool:
    """True if W&B would find an API key, in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class Wandb(Guarded):
    """One W&B run, with rounds as its x axis; offline unless the user is logged in.

    Configuration and summary are W&B's own, so that its panels find them: `method.density` among the former,
    `test_accuracy`, `upload_bytes` and `flops_per_round_max/rigl` among the latter. A run that goes on keeps its id.
    Online, W&B ignores the rounds that it knows; offline, a log with all rounds takes the place of the earlier one.
    """

    label = "W&B"

    def __init__(
        self,
        folder: Path,
        name: str,
        config: Mapping[str, object],
        mode: Literal["auto", "offline"],
        project: str,
        group: str | None,
        kind: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        """Names the run; W&B is imported at the start.

        Args:
            folder: The run's folder; W&B writes to its `wandb/`.
            name: The run's name.
            config: The whole configuration.
            mode: auto is online if the user is logged in; offline never touches the network.
            project: W&B project.
            group: W&B group, if any.
            kind: W&B job type, if any: what runs of a group have in common that differ in their seeds.
            tags: W&B tags.
        """
        super().__init__()
        self._folder, self._name, self._config = folder, name, config
        self._mode, self._project, self._group, self._kind, self._tags = mode, project, group, kind, tuple(tags)
        self._run: wandb.Run | None = None
        self._scalars = Scalars()
        self._records: list[RoundRecord] = []
        self._before: Sequence[RoundRecord] = ()
        self._earlier: list[Path] = []

    @never_fatal
    def start(self, start: Start) -> None:
        import wandb

        said = os.environ.get("WANDB_MODE", "online")
        if said == "disabled":
            self.broken = True  # as good as: nothing more is told
            return
        online = self._mode == "auto" and logged_in() and said == "online"
        modes: list[Literal["online", "offline"]] = ["online", "offline"] if online else ["offline"]
        # Named [offline-]run-DATE-ID; the last is the one to go on with.
        self._earlier = sorted((self._folder / "wandb").glob("*run-*-*"), key=lambda x: x.name.removeprefix("offline-"))
        for mode in modes:
            try:
                self._run = wandb.init(
                    project=self._project,
                    group=self._group,
                    job_type=self._kind,
                    tags=self._tags,
                    name=self._name,
                    id=self._earlier[-1].name.rpartition("-")[2] if self._earlier else None,
                    resume="allow" if mode == "online" else None,
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

    def resumed(self, records: Sequence[RoundRecord]) -> None:
        self._before = records  # They follow what was found: W&B takes steps in their order alone.

    @never_fatal
    def found(self, tables: Sequence[Table]) -> None:
        import wandb

        assert self._run is not None
        told = {}
        for table in tables:
            columns: list[str | int] = [*table.columns, "chosen"]
            rows = [[*row, i == table.chosen] for i, row in enumerate(table.rows)]
            told[table.title.lower()] = wandb.Table(columns=columns, data=rows)
        self._run.log(told, step=0, commit=True)
        for record in self._before:
            self.round(record)
        for earlier in self._earlier:
            if earlier.name.startswith("offline-"):  # It holds nothing that this run's own does not.
                shutil.rmtree(earlier, ignore_errors=True)

    @never_fatal
    def round(self, record: RoundRecord) -> None:
        assert self._run is not None
        self._records.append(record)
        self._run.log(self._scalars.of(record), step=record.round + 1, commit=True)

    @never_fatal
    def finish(self, summary: Mapping[str, object]) -> None:
        import wandb

        assert self._run is not None
        if self._records and self._records[0].layer_densities:
            self._run.log({"layer_densities": wandb.Image(density_heat_map(self._records))})
        self._run.summary.update(flat(summary))
        self._run.finish()
        self._run = None

    @never_fatal
    def close(self) -> None:
        if self._run is not None:
            # A summary is of the whole run as far as it went, and not of its last round.
            sums = {key.removeprefix("so_far/"): value for key, value in self._scalars.spent.items()}
            self._run.summary.update({key: sums[key] for key in ("upload_bytes", "download_bytes") if key in sums})
            self._run.finish(exit_code=1)
            self._run = None
