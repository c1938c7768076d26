"""Every reported number, with its unit in its name."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["RoundRecord", "Start"]


@dataclass(frozen=True, slots=True)
class Start:
    """What is known before the first round.

    Attributes:
        rounds: Rounds to come.
        clients: Clients in the federation.
        class_counts: Training examples of each class, one row a client.
        classes: Name of each class.
        layers: Weights of each prunable layer, from input to output.
        parameters: Trainable numbers of the network.
        prunable: Weights that may be pruned.
        engine: Which engine computes, and why, in a line.
    """

    rounds: int
    clients: int
    class_counts: tuple[tuple[int, ...], ...]
    classes: tuple[str, ...]
    layers: Mapping[str, int]
    parameters: int
    prunable: int
    engine: str


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One federated round.

    Attributes:
        round: 0-based.
        seconds: Wall-clock time of the round, evaluation included.
        clients: Who was asked.
        dropped: Client -> why nothing of it was used: it failed more often than is allowed, or its upload was refused.
        refused: How many of these did send something.
        retried: Tries of clients beyond their first: they raised, hung or lost their process before.
        train_loss: Mean over clients, weighted by examples, of the last local epoch's loss.
        test_loss: Mean cross-entropy on the test set, in nats; None if this round was not evaluated.
        test_accuracy: Share correct on the test set, in [0, 1]; None likewise.
        validation_loss: As `test_loss`, on the validation set; None too if there is none.
        validation_accuracy: As `test_accuracy`, on the validation set.
        density: Kept / prunable weights after the round.
        density_all: Parameters that are not pruned / all parameters of the network that the configuration names.
        layer_densities: Density of each prunable layer.
        exchanged: Weights that were dropped and as many grown, layer by layer; empty if the mask did not move.
        upload_bytes: Encoded bytes from all clients.
        download_bytes: Encoded bytes to all clients.
        flops: Modelled training FLOPs of the busiest client, by accounting (`rigl`, `fedrts`).
        dense_flops: What the busiest client would make of them with that network, without pruning.
        memory_bytes: Modelled training memory of a client, activations apart.
        activation_bytes: Modelled activations of one training step.
        weights_sha256: Fingerprint of weights and mask after the round.
        late: Simulated devices that were asked, and would have missed the deadline.
        surplus: Simulated devices that were asked, and were not among the first.
        simulated_seconds: What the round would have taken in the field; None if `devices` describes none.
        joules: Energy of all devices asked; None likewise.
        personal: Whether clients have models of their own: accuracies, losses and densities are then means over these,
            each examined on what its client would meet (`server/models.py`).
        own_training: Settings of local training that the method gave other values than the run's, or added.
    """

    round: int
    seconds: float
    clients: tuple[int, ...]
    dropped: Mapping[str, str]
    refused: int
    train_loss: float
    test_loss: float | None
    test_accuracy: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    density: float
    density_all: float
    layer_densities: Mapping[str, float]
    exchanged: Mapping[str, int]
    upload_bytes: int
    download_bytes: int
    flops: Mapping[str, float]
    dense_flops: float
    memory_bytes: int
    activation_bytes: int
    weights_sha256: str = field(repr=False)
    retried: int = 0
    late: tuple[int, ...] = ()
    surplus: tuple[int, ...] = ()
    simulated_seconds: float | None = None
    joules: float | None = None
    personal: bool = False
    own_training: Mapping[str, object] = field(default_factory=dict)
