"""Clients a second of FedTiny's Ray fleet on the peers' fixed work: python benchmarks/fleet.py CLIENTS ROUNDS [ACTORS].

The work is that of peers/: each of CLIENTS clients has 64 of scikit-learn's digits, drawn by
`numpy.random.default_rng(client).choice`, and takes part in every round; one local epoch of SGD (learning rate 0.05,
batch 16) on two convolutions of 19,658 parameters; one thread a process, dense, weighted averaging, no evaluation.
Here uploads are checked and their bytes counted, and every round is fingerprinted; like the peers' scripts it writes
nothing to disk.

Prints one line of JSON: seconds from the start of the interpreter to the end of the first round, clients a second over
the rounds after it, and where the time went.
"""

import json
import os
import sys
import time
from pathlib import Path

from fedtiny.fleets import RayActors


def started() -> float:
    """When this process began, in seconds of `time.time`."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - uptime + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def measure(clients: int, number: int, where: RayActors) -> dict[str, object]:
    """Makes the rounds, and tells what they took."""
    # Imported here: Ray gets ready meanwhile, as it does in `python -m fedtiny run`.
    import numpy as np
    import torch
    from sklearn.datasets import load_digits

    from fedtiny.client.world import World
    from fedtiny.data.datasets import Digits
    from fedtiny.methods.aggregation import Mean
    from fedtiny.methods.base import ServerState
    from fedtiny.methods.dense import Dense
    from fedtiny.methods.phases import Phase
    from fedtiny.models.zoo import SmallCnn
    from fedtiny.payload.packing import Layout
    from fedtiny.payload.training import Training
    from fedtiny.server.evaluate import Examiner
    from fedtiny.server.ledger import Ledger
    from fedtiny.server.loop import Plan, rounds
    from fedtiny.sparse.engine.choose import Engine
    from fedtiny.sparse.engine.resident import Resident
    from fedtiny.sparse.network import Network, Prunable

    imported = time.time()
    torch.set_num_threads(1)
    pixels, labels = load_digits(return_X_y=True)
    images = np.round(pixels.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = labels.astype(np.int64)
    shares = {k: np.random.default_rng(k).choice(len(pixels), 64) for k in range(clients)}
    model, data, engine = SmallCnn(), Digits(mean=(0.0,), std=(1.0,)), Engine(name="dense")
    network = Network.of(model.build(1, 10, 0), (1, 8, 8), Prunable())
    layout = Layout({name: x.shape for name, x in network.weights.items()}, frozenset(network.prunable))
    world = World(0, model, 1, 10, layout, data, engine, images, labels, shares)
    training = Training(epochs=1, batch=16, lr=0.05, momentum=0, weight_decay=0)
    plan = Plan([Phase(0, Dense(), training)], number, None, number + 1, 0, Mean(), network)
    nothing = Examiner(Resident(network.module, engine), images[:0], labels[:0], data, 10)
    seconds: list[float] = []
    with where.open(world, clients, clients) as fleet:
        ledger = Ledger(fleet, layout, network, len(labels))
        for _, record, _ in rounds(plan, network, ledger, ServerState(0, network.weights, None), nothing, nothing):
            assert not record.dropped
            if not seconds:
                first = time.time()
                places, driver = dict(fleet.spent), dict(ledger.watch.seconds)
            seconds.append(record.seconds)
        work = clients * (number - 1)
        mean = sum(seconds[1:]) / (number - 1)
        return {
            "clients": clients,
            "first_round_from_command_s": round(first - started(), 2),
            "first_round_from_imports_s": round(first - imported, 2),
            "round_s": round(mean, 4),
            "clients_per_s": round(clients / mean, 1),
            "actors_ms_a_client": {k: round(1e3 * (x - places.get(k, 0.0)) / work, 3) for k, x in fleet.spent.items()},
            "driver_ms_a_client": {
                k: round(1e3 * (x - driver.get(k, 0.0)) / work, 3) for k, x in ledger.watch.seconds.items()
            },
        }


def main(clients: int, number: int, actors: int) -> None:
    """Prints the figures."""
    where = RayActors(actors=actors)
    with where.booting():
        print(json.dumps(measure(clients, number, where)))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 2)
