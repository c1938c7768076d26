"""One run: the only place that knows all rooms.

config -> data set -> shares -> clients -> fleet
method.begin -> (method.order -> fleet -> method.absorb -> evaluate -> record) * rounds -> files
"""

import copy
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from fedtiny import seeds
from fedtiny.client.world import World
from fedtiny.config.load import ConfigError, save
from fedtiny.config.schema import RunConfig
from fedtiny.disk import replaced, sole, write_whole
from fedtiny.memory import forget_peak, peak_bytes
from fedtiny.methods.average import MOST_EXAMPLES
from fedtiny.methods.base import ServerState
from fedtiny.payload.fleet import Fleet
from fedtiny.payload.training import Training
from fedtiny.prepare import Prepared
from fedtiny.resumption import other_versions, resumption, versions
from fedtiny.server.checkpoint import Checkpoint, save_checkpoint
from fedtiny.server.evaluate import Examiner
from fedtiny.server.fingerprint import fingerprint
from fedtiny.server.ledger import Ledger, Traffic
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
from fedtiny.track.sinks import JsonLines, Sink

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
        ConfigError: The fleet cannot be opened, another process makes this run, or it cannot be resumed.
        OSError: Something cannot be written; what was written before is whole.
    """
    began, watch = time.perf_counter(), Stopwatch()
    forget_peak()
    torch.set_num_threads(1)  # As in the clients: sums in another order would be other bits.
    config, network = prepared.config, prepared.network
    settings = config.model_dump(mode="json")
    start, shared = starting(prepared), protocol(prepared)
    checkpoints = folder / "checkpoints"
    with ExitStack() as stack:
        stack.enter_context(_claimed(folder))
        stack.enter_context(watch.on("other"))
        found, records = resumption(folder, config) if resume else (None, [])
        if not found:
            save(folder / "config.yaml", config)
        everyone = [JsonLines(folder / "rounds.jsonl", records), *sinks]
        for sink in everyone:
            stack.callback(sink.close)
        world = prepared.world
        with watch.on("start"):
            # First, so that its processes get ready while the sinks do.
            fleet = stack.enter_context(_fleet(config, world))
            for sink in everyone:
                sink.start(start)
        if found and (remark := other_versions(found.versions)):
            for sink in everyone:
                sink.remark(remark)

        def tell(trouble: str) -> None:
            for sink in everyone:
                sink.trouble(trouble)

        people = prepared.population
        most = min(len(world.labels), MOST_EXAMPLES)  # whoever claims more could make a sum round
        ledger = Ledger(fleet, world.layout, network, most, config.quorum, tell, people, watch)
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
            sink.resumed(records)
            sink.found(tables)
        earlier: Mapping[str, Mapping[str, float]] = found.times if found else {}

        def times() -> dict[str, dict[str, float]]:
            driver, clients = watch.so_far(), dict(fleet.spent)
            driver["put"] = clients.pop("put", 0.0) - put
            driver["wait"] = driver.get("wait", 0.0) - driver["put"]
            return {who: _sum(earlier.get(who, {}), told) for who, told in (("driver", driver), ("clients", clients))}

        spent, first_round = (found.seconds, found.seconds_to_first_round) if found else (0.0, 0.0)
        plan = Plan(
            config.phases,
            config.rounds,
            config.cohort,
            config.evaluate_every,
            config.seed,
            config.aggregation,
            prepared.reference,
            start.class_counts,
        )
        final, last = first, None
        chosen_with = _spent(selection)
        test, validation = _examiners(prepared)
        for state, record, evaluation in rounds(plan, network, ledger, first, test, validation):
            first_round = first_round or time.perf_counter() - began
            records.append(record)
            final, last = state, evaluation or last
            with watch.on("log"):
                for sink in everyone:
                    sink.round(record)
                so_far = spent + time.perf_counter() - began
                save_checkpoint(
                    checkpoints,
                    Checkpoint(
                        state,
                        ledger.held,
                        selection,
                        so_far,
                        first_round,
                        pretrained,
                        settings,
                        versions(),
                        times(),
                    ),
                )
            for sink in everyone:
                sink.saved(record, chosen_with)
        models = Models.of(config.method, network, final, prepared.reference)
        last = last or models.examine(test, start.class_counts)  # where only the files were missing
        assert last is not None
        seconds = {"seconds": spent + time.perf_counter() - began, "seconds_to_first_round": first_round}
        with watch.on("log"):
            with replaced(folder / "model.safetensors") as path:
                save_model(path, final.weights, final.mask, _about(prepared))
            if models.own:
                with replaced(folder / "personal.safetensors") as path:
                    save_masks(path, {client: own.mask for client, own in models.own.items()})
        summary = summarise(prepared, final, records, selection, last) | seconds | {"time": times()}
        summary |= {"driver_peak_bytes": peak_bytes()}
        summary |= {"protocol": shared | {"pretrained_weights_sha256": pretrained}}
        with replaced(folder / "report.html") as path:
            write_report(path, settings, start, tables, records, summary, last.confusion.tolist())
        # Last of all: with it the run counts as finished.
        write_whole(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
        for sink in everyone:
            sink.finish(summary)
    return RunResult(summary, records, tables, final)


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Keeps other processes from making the same run, until the context or this process ends."""
    with sole(folder) as alone:
        if not alone:
            raise ConfigError([f"{folder}: this run is going on in another process; wait for it, or end it"])
        yield


def _sum(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    return {key: before.get(key, 0.0) + now.get(key, 0.0) for key in (*before, *now)}


def _spent(selection: Traffic) -> dict[str, float]:
    up, down = float(selection.upload_bytes), float(selection.download_bytes)
    return {"upload_bytes": up, "download_bytes": down, "flops": selection.measuring_flops_max}


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
