"""One run: the only place that knows all rooms.

config -> data set -> shares -> clients -> fleet
method.begin -> (method.order -> fleet -> method.absorb -> evaluate -> record) * rounds -> files
"""

import copy
import fcntl
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from fedtiny import seeds
from fedtiny.client.world import World
from fedtiny.config.load import ConfigError
from fedtiny.config.schema import RunConfig
from fedtiny.methods.base import ServerState
from fedtiny.payload.fleet import Fleet
from fedtiny.payload.training import Training
from fedtiny.prepare import Prepared
from fedtiny.server.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fedtiny.server.evaluate import Examiner
from fedtiny.server.fingerprint import fingerprint
from fedtiny.server.ledger import Ledger
from fedtiny.server.loop import Plan, pretrain, rounds
from fedtiny.server.model_file import save_masks, save_model
from fedtiny.server.models import Models
from fedtiny.sparse.engine.resident import Resident
from fedtiny.sparse.network import load_
from fedtiny.stopwatch import Stopwatch
from fedtiny.summary import protocol, starting, summarise
from fedtiny.table import Table
from fedtiny.track.record import RoundRecord
from fedtiny.track.report import write_report
from fedtiny.track.sinks import JsonLines, Sink, read_records

__all__ = ["RunResult", "run"]


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


def run(prepared: Prepared, folder: Path, sinks: Sequence[Sink] = (), resume: bool = False) -> RunResult:
    """Makes the run and writes its files to `folder`, which must exist.

    Args:
        prepared: The run.
        folder: Gets config.yaml, rounds.jsonl, checkpoints/, summary.json, model.safetensors and report.html;
            personal.safetensors too where clients have masks of their own over that model.
        sinks: Who else is told, while it goes on.
        resume: Goes on after the last checkpoint in `folder`, if there is one: the result is that of an unbroken run.

    Raises:
        ClientFailed: Fewer clients answered than the quorum.
        ConfigError: The fleet cannot be opened, or another process makes this run.
        OSError: Something cannot be written; what was written before is whole.
    """
    began, watch = time.perf_counter(), Stopwatch()
    torch.set_num_threads(1)  # As in the clients: sums in another order would be other bits.
    config, network = prepared.config, prepared.network
    settings = config.model_dump(mode="json")
    start, shared = starting(prepared), protocol(prepared)
    checkpoints = folder / "checkpoints"
    with ExitStack() as stack:
        stack.enter_context(_claimed(folder))
        stack.enter_context(watch.on("other"))
        (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        found = load_checkpoint(checkpoints) if resume else None
        records = read_records(folder / "rounds.jsonl", found.state.round) if found else []
        everyone = [JsonLines(folder / "rounds.jsonl", records), *sinks]
        for sink in everyone:
            stack.callback(sink.close)
        world = prepared.world
        with watch.on("start"):
            # First, so that its processes get ready while the sinks do.
            fleet = stack.enter_context(_fleet(config, world))
            for sink in everyone:
                sink.start(start)

        def tell(trouble: str) -> None:
            for sink in everyone:
                sink.trouble(trouble)

        people = prepared.population
        ledger = Ledger(fleet, world.layout, network, len(world.labels), config.quorum, tell, people, watch)
        with watch.on("select"):
            if not found:
                _pretrain(prepared, ledger)
            pretrained = found.pretrained_sha256 if found else fingerprint(network.weights, None)
            first = found.state if found else _begin(prepared, ledger)
        watch.seconds["select"] += watch.seconds.pop("wait", 0.0)  # so far all of it was for the selection
        put = fleet.spent.get("put", 0.0)
        selection = found.selection if found else ledger.take()
        ledger.held.update(found.held if found else {})
        tables = config.method.findings(network, first)
        for sink in everyone:
            sink.found(tables)
            sink.resumed(records)
        spent, first_round = (found.seconds, found.seconds_to_first_round) if found else (0.0, 0.0)
        plan = Plan(
            config.method,
            config.training,
            config.rounds,
            config.cohort,
            config.evaluate_every,
            config.seed,
            config.aggregation,
            prepared.reference,
            start.class_counts,
        )
        final, last = first, None
        test, validation = _examiners(prepared)
        for state, record, evaluation in rounds(plan, network, ledger, first, test, validation):
            first_round = first_round or time.perf_counter() - began
            records.append(record)
            final, last = state, evaluation or last
            with watch.on("log"):
                for sink in everyone:
                    sink.round(record)
                so_far = spent + time.perf_counter() - began
                where = Checkpoint(state, ledger.held, selection, so_far, first_round, pretrained)
                save_checkpoint(checkpoints, where)
        models = Models.of(config.method, network, final, prepared.reference)
        last = last or models.examine(test, start.class_counts)  # where only the files were missing
        assert last is not None
        seconds = {"seconds": spent + time.perf_counter() - began, "seconds_to_first_round": first_round}
        with watch.on("log"):
            save_model(folder / "model.safetensors", final.weights, final.mask, _about(prepared))
            if models.own:
                save_masks(folder / "personal.safetensors", {client: own.mask for client, own in models.own.items()})
        put = fleet.spent.get("put", 0.0) - put
        driver = watch.seconds | {"put": put, "wait": watch.seconds.get("wait", 0.0) - put}
        times = {"driver": driver, "clients": {k: x for k, x in fleet.spent.items() if k != "put"}}
        summary = summarise(prepared, final, records, selection, last) | seconds | {"time": times}
        summary |= {"protocol": shared | {"pretrained_weights_sha256": pretrained}}
        (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        write_report(folder / "report.html", settings, start, tables, records, summary, last.confusion.tolist())
        for sink in everyone:
            sink.finish(summary)
    return RunResult(summary, records, tables, final)


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Keeps other processes from making the same run, until the context or this process ends."""
    with (folder / "config.yaml").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError([f"{folder}: this run is going on in another process; wait for it, or end it"]) from None
        yield


@contextmanager
def _fleet(config: RunConfig, world: World) -> Iterator[Fleet]:
    with ExitStack() as stack:
        try:
            fleet = stack.enter_context(config.fleet.open(world, config.clients, config.cohort or config.clients))
        except ValueError as error:
            raise ConfigError([str(error)]) from error
        yield fleet


def _pretrain(prepared: Prepared, ledger: Ledger) -> None:
    config, network = prepared.config, prepared.network
    if config.pretraining.epochs:
        training = Training.model_validate(config.pretraining.model_dump())
        load_(network.module, pretrain(network.weights, ledger, training))


def _begin(prepared: Prepared, ledger: Ledger) -> ServerState:
    config, network = prepared.config, prepared.network
    return config.method.begin(network, ledger, seeds.stream(config.seed, "method"))


def _examiners(prepared: Prepared) -> tuple[Examiner, Examiner]:
    config, examples = prepared.config, prepared.examples
    classes, chosen = len(examples.classes), prepared.shares.validation
    # A copy: the network itself stays dense, for methods to look at.
    resident = Resident(copy.deepcopy(prepared.network.module), config.engine)
    test = Examiner(resident, examples.test_images, examples.test_labels, config.data, classes)
    validation = Examiner(resident, examples.images[chosen], examples.labels[chosen], config.data, classes)
    return test, validation


def _about(prepared: Prepared) -> dict[str, object]:
    config, examples = prepared.config, prepared.examples
    return {
        "model": prepared.model.model_dump(mode="json"),
        "input_shape": examples.shape,
        "classes": examples.classes,
        "mean": config.data.mean,
        "std": config.data.std,
    }
