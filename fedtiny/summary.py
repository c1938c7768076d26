"""What is known before a run, and what it came to."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from fedtiny.methods.base import ServerState
from fedtiny.prepare import Prepared
from fedtiny.server.evaluate import Evaluation
from fedtiny.server.fingerprint import fingerprint, fingerprint_of
from fedtiny.server.ledger import Traffic
from fedtiny.sparse.engine.choose import Choice
from fedtiny.track.record import RoundRecord, Start

__all__ = ["protocol", "starting", "summarise"]


def starting(prepared: Prepared) -> Start:
    """What is known before the first round."""
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
        engine=prepared.choice.reason,
    )


def protocol(prepared: Prepared) -> dict[str, object]:
    """What runs must have in common to be compared, as fingerprints; of a network that was not trained yet."""
    examples, shares = prepared.examples, prepared.shares
    data = (examples.images, examples.labels, examples.test_images, examples.test_labels)
    return {
        "data_sha256": fingerprint_of(data),
        "partition_sha256": fingerprint_of((shares.public, shares.validation, *shares.clients)),
        "model": prepared.model.model_dump(mode="json"),
        "initial_weights_sha256": fingerprint(prepared.network.weights, None),
    }


def summarise(
    prepared: Prepared,
    state: ServerState,
    records: Sequence[RoundRecord],
    selection: Traffic,
    last: Evaluation,
) -> dict[str, object]:
    """The figures of `summary.json`, but for the seconds.

    Args:
        prepared: The run.
        state: Its final weights and mask.
        records: One record a round.
        selection: What crossed the network before the first round.
        last: The last evaluation on the test set.
    """
    config, network, reference = prepared.config, prepared.network, prepared.reference
    cohort = min(config.cohort or config.clients, config.clients)
    dense_model = 4 * sum(tensor.numel() for tensor in reference.weights.values())
    evaluated = [record for record in records if record.test_accuracy is not None]
    return {
        "name": config.name,
        "method": config.method.name,
        "seed": config.seed,
        "rounds": len(records),
        "clients": config.clients,
        "model": prepared.model.model_dump(mode="json"),
        "parameters": network.parameters,
        "reference_parameters": reference.parameters,
        "prunable": sum(layer.size for layer in network.layers if layer.prunable),
        "density_target": config.method.target,
        "density": records[-1].density,
        "density_all": records[-1].density_all,
        "personal": records[-1].personal,
        "test_accuracy": last.accuracy,
        "test_loss": last.loss,
        "validation_accuracy": evaluated[-1].validation_accuracy,
        "upload_bytes": selection.upload_bytes + sum(x.upload_bytes for x in records),
        "download_bytes": selection.download_bytes + sum(x.download_bytes for x in records),
        "selection_bytes": selection.upload_bytes + selection.download_bytes,
        "dense_upload_bytes": dense_model * cohort * len(records),
        "flops_per_round_max": {name: max(x.flops[name] for x in records) for name in records[0].flops},
        "dense_flops_per_round_max": max(x.dense_flops for x in records),
        "selection_flops_max": selection.measuring_flops_max,
        "memory_bytes_max": max(x.memory_bytes for x in records),
        "activation_bytes_max": max(x.activation_bytes for x in records),
        "engine": _engine(prepared.choice),
        "dropped": sum(len(x.dropped) for x in records),
        "refused": sum(x.refused for x in records),
        "simulated_seconds": _total(selection.simulated_seconds, [x.simulated_seconds for x in records]),
        "joules": _total(selection.joules, [x.joules for x in records]),
        "weights_sha256": records[-1].weights_sha256,
        "environment": {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            **{name: version(name) for name in ("fedtiny", "torch", "lightning", "ray", "wandb")},
        },
    }


def _total(before: float, rounds: Sequence[float | None]) -> float | None:
    told = [x for x in rounds if x is not None]
    return before + sum(told) if told else None


def _engine(choice: Choice) -> dict[str, object]:
    measured = {} if choice.cost is None else {**choice.cost.model_dump(), "speedup": choice.cost.speedup}
    return {"name": choice.engine.name, "reason": choice.reason, "sparse_layers": list(choice.layers), **measured}
