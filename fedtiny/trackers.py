"""Where the numbers of a run go besides its folder, as its configuration has it."""

from pathlib import Path

from fedtiny.config.schema import RunConfig
from fedtiny.track.sinks import Sink

__all__ = ["trackers"]


def trackers(config: RunConfig, folder: Path) -> list[Sink]:
    """W&B, TensorBoard and CSV, as far as `config.tracking` asks for them; what is not asked for is not imported.

    Args:
        config: The whole configuration.
        folder: The run's folder.
    """
    tracking, told = config.tracking, config.model_dump(mode="json")
    found: list[Sink] = []
    if tracking.wandb != "off":
        from fedtiny.track.wandb import Wandb

        method = config.method.name
        tags = (method, config.data.name, config.model.name, f"density {config.method.target:.3g}")
        found.append(
            Wandb(folder, config.name, told, tracking.wandb, tracking.project, tracking.group, kind=method, tags=tags)
        )
    if tracking.tensorboard:
        from fedtiny.track.loggers import TensorBoard

        found.append(TensorBoard(folder, told))
    if tracking.csv:
        from fedtiny.track.loggers import Csv

        found.append(Csv(folder, told))
    return found
