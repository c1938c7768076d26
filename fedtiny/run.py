"""One run: the only place that knows all rooms.

config -> data set -> shares -> clients -> fleet
method.begin -> (method.order -> fleet -> method.absorb -> evaluate -> record) * rounds -> files
"""

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import yaml

from fedtiny import seeds
from fedtiny.client.world import World
from fedtiny.config.load import ConfigError
from fedtiny.config.schema import RunConfig
from fedtiny.data.examples import Examples
from fedtiny.data.split import Shares
from fedtiny.methods.base import ServerState
from fedtiny.payload.codec import Layout
from fedtiny.payload.messages import SERVER
from fedtiny.payload.training import Training
from fedtiny.server.evaluate import Evaluation, Examiner
from fedtiny.server.ledger import Ledger, Traffic
from fedtiny.server.loop import Plan, density_all, pretrain, rounds
from fedtiny.server.model_file import save_model
from fedtiny.sparse.cost import training_flops
from fedtiny.sparse.network import Network, load_
from fedtiny.table import Table
from fedtiny.track.record import RoundRecord, Start
from fedtiny.track.report import write_report
from fedtiny.track.sinks import JsonLines, Sink

__all__ = ["Prepared", "RunResult", "prepare", "run"]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A run that can start: everything that could be wrong with its configuration has been looked at.

    Attributes:
        config: The configuration.
        examples: The data set.
        shares: Who holds which training example.
        network: The freshly initialised network.
    """

    config: RunConfig
    examples: Examples
    shares: Shares
    network: Network


@dataclass(frozen=True, slots=True, eq=False)
class RunResult:
    """What a run came to.

    Attributes:
        summary: Every figure of `summary.json`.
        records: One record a round.
        tables: What the method found.
        state: The final weights and mask.
    """

    summary: Mapping[str, object]
    records: Sequence[RoundRecord]
    tables: Sequence[Table]
    state: ServerState


def prepare(config: RunConfig) -> Prepared:
    """Loads the data, deals it, builds the network, and checks that the method can prune it.

    Raises:
        ConfigError: Something does not fit; all of it at once.
    """
    problems = []
    if config.cohort is not None and config.cohort > config.clients:
        problems.append(f"cohort: must be at most clients ({config.clients}), got {config.cohort}")
    try:
        examples = config.data.load()
    except ValueError as error:
        raise ConfigError([*problems, f"data: {error}"]) from error
    channels, *_ = examples.shape
    for key, values in (("mean", config.data.mean), ("std", config.data.std)):
        if len(values) not in (1, channels):
            problems.append(f"data.{key}: must have 1 value or one a channel ({channels}), got {len(values)}")
    shares = None
    try:
        shares = config.split.deal(examples.labels, config.partition, config.clients, config.seed)
        if config.pretraining.epochs and len(shares.public) < 2:
            problems.append(
                f"pretraining.epochs: must be 0 where the server holds fewer than 2 public examples "
                f"(split.public), got {config.pretraining.epochs}"
            )
    except ValueError as error:
        problems.append(f"clients: {error}")
    module = config.model.build(channels, len(examples.classes), seeds.number(config.seed, "weights"))
    network = Network.of(module, examples.shape, config.prunable)
    try:
        config.method.check(network, seeds.stream(config.seed, "method"))
    except ValueError as error:
        problems.append(f"method: {error}")
    if problems or shares is None:
        raise ConfigError(problems)
    return Prepared(config, examples, shares, network)


def run(prepared: Prepared, folder: Path, sinks: Sequence[Sink] = ()) -> RunResult:
    """Makes the run and writes its files to `folder`, which must exist and hold no run.

    Args:
        prepared: The run.
        folder: Gets config.yaml, rounds.jsonl, summary.json, model.safetensors and report.html.
        sinks: Who else is told, while it goes on.

    Raises:
        ClientFailed: A client raised.
    """
    began = time.perf_counter()
    torch.set_num_threads(1)  # As in the clients: sums in another order would be other bits.
    config, network = prepared.config, prepared.network
    settings = config.model_dump(mode="json")
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    start = _start(prepared)
    everyone = [JsonLines(folder / "rounds.jsonl"), *sinks]
    with ExitStack() as stack:
        for sink in everyone:
            stack.callback(sink.close)
        world = _world(prepared)
        # First, so that its processes get ready while the sinks do.
        fleet = stack.enter_context(config.fleet.open(world, config.clients, config.cohort or config.clients))
        for sink in everyone:
            sink.start(start)
        ledger = Ledger(fleet, world.layout, network)
        first = _begin(prepared, ledger)
        selection = ledger.take()
        tables = config.method.findings(network, first)
        for sink in everyone:
            sink.found(tables)
        records: list[RoundRecord] = []
        plan = Plan(config.method, config.training, config.rounds, config.cohort, config.evaluate_every, config.seed)
        final, last = first, None
        first_round = 0.0
        test, validation = _examiners(prepared)
        for state, record, evaluation in rounds(plan, network, ledger, first, test, validation):
            first_round = first_round or time.perf_counter() - began
            records.append(record)
            final, last = state, evaluation or last
            for sink in everyone:
                sink.round(record)
        assert last is not None
        seconds = {"seconds": time.perf_counter() - began, "seconds_to_first_round": first_round}
        summary = _summary(prepared, final, records, selection, last) | seconds
        save_model(folder / "model.safetensors", final.weights, final.mask, _about(prepared))
        (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        write_report(folder / "report.html", settings, start, tables, records, summary, last.confusion.tolist())
        for sink in everyone:
            sink.finish(summary)
    return RunResult(summary, records, tables, final)


def _world(prepared: Prepared) -> World:
    config, examples, network = prepared.config, prepared.examples, prepared.network
    channels, *_ = examples.shape
    shapes = {name: tensor.shape for name, tensor in network.weights.items()}
    return World(
        seed=config.seed,
        model=config.model,
        channels=channels,
        classes=len(examples.classes),
        layout=Layout(shapes, frozenset(network.prunable)),
        data=config.data,
        # A plain array, not a memory map: Ray then shares it without a copy a process.
        images=np.asarray(examples.images),
        labels=examples.labels,
        shares={SERVER: prepared.shares.public, **dict(enumerate(prepared.shares.clients))},
    )


def _begin(prepared: Prepared, ledger: Ledger) -> ServerState:
    config, network = prepared.config, prepared.network
    if config.pretraining.epochs:
        training = Training.model_validate(config.pretraining.model_dump())
        load_(network.module, pretrain(network.weights, ledger, training))
    return config.method.begin(network, ledger, seeds.stream(config.seed, "method"))


def _examiners(prepared: Prepared) -> tuple[Examiner, Examiner]:
    config, examples = prepared.config, prepared.examples
    module, classes, chosen = prepared.network.module, len(examples.classes), prepared.shares.validation
    test = Examiner(module, examples.test_images, examples.test_labels, config.data, classes)
    validation = Examiner(module, examples.images[chosen], examples.labels[chosen], config.data, classes)
    return test, validation


def _start(prepared: Prepared) -> Start:
    config, examples, network = prepared.config, prepared.examples, prepared.network
    classes = len(examples.classes)
    counts = [np.bincount(examples.labels[part], minlength=classes) for part in prepared.shares.clients]
    return Start(
        rounds=config.rounds,
        clients=config.clients,
        class_counts=tuple(tuple(int(n) for n in row) for row in counts),
        classes=examples.classes,
        layers={layer.name: layer.size for layer in network.layers if layer.prunable},
        parameters=network.parameters,
        prunable=sum(layer.size for layer in network.layers if layer.prunable),
    )


def _summary(
    prepared: Prepared,
    state: ServerState,
    records: Sequence[RoundRecord],
    selection: Traffic,
    last: Evaluation,
) -> dict[str, object]:
    config, network = prepared.config, prepared.network
    most = max(len(part) for part in prepared.shares.clients) * config.training.epochs
    cohort = min(config.cohort or config.clients, config.clients)
    dense_model = 4 * sum(tensor.numel() for tensor in state.weights.values())
    evaluated = [record for record in records if record.test_accuracy is not None]
    return {
        "name": config.name,
        "method": config.method.name,
        "seed": config.seed,
        "rounds": len(records),
        "clients": config.clients,
        "parameters": network.parameters,
        "prunable": sum(layer.size for layer in network.layers if layer.prunable),
        "density_target": config.method.target,
        "density": state.mask.density if state.mask else 1.0,
        "density_all": density_all(network, state.mask),
        "test_accuracy": last.accuracy,
        "test_loss": last.loss,
        "validation_accuracy": evaluated[-1].validation_accuracy,
        "upload_bytes": selection.upload_bytes + sum(x.upload_bytes for x in records),
        "download_bytes": selection.download_bytes + sum(x.download_bytes for x in records),
        "selection_bytes": selection.upload_bytes + selection.download_bytes,
        "dense_upload_bytes": dense_model * cohort * len(records),
        "flops_per_round_max": {name: max(x.flops[name] for x in records) for name in records[0].flops},
        "dense_flops_per_round_max": training_flops(network, None, most),
        "selection_flops_max": selection.measuring_flops_max,
        "memory_bytes_max": max(x.memory_bytes for x in records),
        "activation_bytes_max": max(x.activation_bytes for x in records),
        "weights_sha256": records[-1].weights_sha256,
        "environment": {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            **{name: version(name) for name in ("fedtiny", "torch", "lightning", "ray", "wandb")},
        },
    }


def _about(prepared: Prepared) -> dict[str, object]:
    config, examples = prepared.config, prepared.examples
    return {
        "model": config.model.model_dump(mode="json"),
        "input_shape": examples.shape,
        "classes": examples.classes,
        "mean": config.data.mean,
        "std": config.data.std,
    }
