"""A place where clients live: one resident network, module and trainer that each client uses in turn."""

import logging
import platform
import time
import traceback

import numpy as np
import torch
from lightning import pytorch as pl
from numpy.typing import NDArray

from fedtiny import seeds
from fedtiny.client.adjusting import CollectGrowth
from fedtiny.client.extrude import Extrude
from fedtiny.client.keep_mask import KeepMask
from fedtiny.client.module import Classifier
from fedtiny.client.probes import Answering, callback_for
from fedtiny.client.processor import CPU, away, seeded
from fedtiny.client.prune_activations import PruneActivations
from fedtiny.client.trainer import DeviceTrainer
from fedtiny.client.world import World
from fedtiny.data.loaders import Batches
from fedtiny.payload.messages import Order, Reply, Upload
from fedtiny.payload.packing import Packing
from fedtiny.payload.probes import Look
from fedtiny.payload.training import Training
from fedtiny.payload.upload import encode_upload
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.engine.kernels import EngineUnavailable, kernels
from fedtiny.sparse.engine.resident import Resident
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Weights

__all__ = ["Client"]


class Client:
    """Plays any client of a federation, one at a time.

    A client's result depends on the order, its id and the run's seed alone: never on who played here before, nor on
    the number of places there are. That takes one thread, weights loaded whole, and streams named by client and
    round.
    """

    def __init__(self, world: World, device: torch.device = CPU) -> None:
        """Builds the network and the trainer once; making them anew for every client is slow and leaks memory.

        Args:
            world: What clients share.
            device: Where the network lives and computes. What comes and goes lies on the CPU.
        """
        torch.set_num_threads(1)
        self._world, self._device = world, device
        module = world.model.build(world.channels, world.classes, world.seed)
        self._module = Classifier(module).to(device)
        # Now that the module is where it stays: what it refers to the weights by would be left behind by a move.
        self._resident = Resident(module, _available(world.engine))
        self._trainer = DeviceTrainer(device)
        self._packed: Mask | None = None
        self._packing = Packing.of(world.layout, None)
        self._spent: dict[str, float] = {}

    def carry_out(self, order: Order, client: int) -> Upload:
        """Does what the order says as client `client`."""
        order = order.of(client)
        world, path = self._world, ("client", client, "round", order.round)
        began = time.perf_counter()
        indices, aside = self._held_out(order, client)
        self._put(order.mask, order.weights)
        mask = order.mask
        # Anything that draws from torch's global generator (augmentation, dropout) draws the client's own numbers.
        with seeded(self._device, seeds.number(world.seed, *path)):
            probes = [callback_for(probe, order.mask) for probe in order.probes]
            loaded = time.perf_counter()
            trained = order.training is not None
            before = [x for x, probe in zip(probes, order.probes, strict=True) if probe.measures or not trained]
            if before:
                seen = aside if order.holdout else self._development(client, order.development)
                self._measure([*before], seen, Look() if trained else order.look, client)
            if order.training is not None:
                if before:
                    self._resident.load_(order.weights)  # batch norm, measured, keeps what it saw
                mask = self._train([x for x in probes if x not in before], order, Batches(
                    world.images, world.labels, indices, order.training.batch, world.data,
                    seeds.stream(world.seed, *path),
                ))  # fmt: skip
        # It waits for the device, if that is a GPU: what follows is told apart from the training.
        loss = self._module.epoch_loss if trained else float("nan")
        self._spent = {"load": loaded - began, "train": time.perf_counter() - loaded}
        if mask is not self._packed:
            self._packed, self._packing = mask, Packing.of(world.layout, mask)
        return Upload(
            client=client,
            examples=len(indices),
            loss=loss,
            values=self._packing.pack(self._resident.weights).to(CPU) if trained and order.sends(loss) else None,
            packing=self._packing,
            answers=tuple(probe.answer() for probe in probes),
            mask=None if order.adjust is None else mask,
        )

    def send(self, order: Order, client: int) -> Reply:
        """Carries out the order and encodes the upload. If that raises, the reply says what; then make a new place."""
        began = time.perf_counter()
        try:
            buffer = encode_upload(self.carry_out(order, client), order)
        except Exception as error:
            reason = " ".join(str(error).split())
            return Reply(client, None, {}, f"raised {type(error).__name__}: {reason}", traceback.format_exc())
        spent = self._spent | {"pack": time.perf_counter() - began - sum(self._spent.values())}
        return Reply(client, buffer, spent)

    def _development(self, client: int, share: float) -> NDArray[np.int64]:
        indices = self._world.shares[client]
        count = max(2, round(share * len(indices)))
        if count >= len(indices):
            return indices
        rng = seeds.stream(self._world.seed, "client", client, "development")
        return np.sort(rng.choice(indices, count, replace=False))

    def _held_out(self, order: Order, client: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """A client's examples to train on, and those held out; the same in every round."""
        indices = self._world.shares[client]
        count = order.held_out(len(indices))
        if not count:
            return indices, indices[:0]
        shuffled = seeds.stream(self._world.seed, "client", client, "holdout").permutation(indices)
        return np.sort(shuffled[count:]), np.sort(shuffled[:count])

    def _put(self, mask: Mask | None, weights: Weights) -> None:
        self._module.net = self._resident.under(mask)
        self._resident.load_(weights)

    def _train(self, probes: list[Answering], order: Order, batches: Batches) -> Mask | None:
        """Trains as the order says; gives the mask that holds in the end."""
        assert order.training is not None
        if order.adjust is None:
            self._fit(order, [*probes], order.training, order.mask, batches)
            return order.mask
        assert not probes
        growth = CollectGrowth(order)
        before, after = order.adjust.split(order.training)
        self._fit(order, [growth], before, order.mask, batches)
        weights = {name: away(tensor) for name, tensor in self._resident.weights.items()}
        mask = growth.moved(weights)
        mask.apply_(weights)
        self._put(mask, weights)
        if after is not None:
            self._fit(order, [], after, mask, batches)  # its batches go on where those before have ended
        return mask

    def _fit(
        self, order: Order, callbacks: list[pl.Callback], training: Training, mask: Mask | None, batches: Batches
    ) -> None:
        self._module.training_settings = training
        self._module.trainable = self._module.net.parameters()  # all of them, unless KeepMask knows better
        if training.activation_density < 1:
            callbacks = [*callbacks, PruneActivations(training.activation_density)]
        if mask is not None:
            callbacks = [*callbacks, KeepMask(mask)]
            if training.extrusion is not None:
                callbacks = [*callbacks, Extrude(training.extrusion, order.weights, mask)]
        self._trainer.train(self._module, batches, callbacks)

    def _measure(self, callbacks: list[pl.Callback], indices: NDArray[np.int64], look: Look, client: int) -> None:
        if not len(indices):
            return
        world = self._world
        if look.batches is not None:
            drawn = seeds.stream(world.seed, "client", client, "look").permutation(indices)
            indices = drawn[: look.batches * look.batch]
        batches = Batches(world.images, world.labels, indices, look.batch, world.data)
        self._trainer.measure(self._module, batches, callbacks)


def _available(engine: Engine) -> Engine:
    """The engine, or the dense one on a node that cannot have it."""
    try:
        if engine.name == "sparse":
            kernels(torch.float32)
    except EngineUnavailable as error:
        logging.getLogger("fedtiny").warning("%s computes with dense kernels: %s", platform.node(), error)
        return Engine(name="dense")
    return engine
