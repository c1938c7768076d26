"""Clients per second of Flower's Ray simulation on the work of ../fleet.py: python flower_digits.py CLIENTS ROUNDS."""

import os
import sys
import time
import warnings

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
warnings.filterwarnings("ignore")

import numpy as np
import torch
from flwr.client import ClientApp, NumPyClient
from flwr.common import ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.simulation import run_simulation
from torch import nn

CLIENTS, ROUNDS = int(sys.argv[1]), int(sys.argv[2])
_digits = []


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1, stride=2),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def examples(client):
    if not _digits:
        from sklearn.datasets import load_digits

        _digits.append(load_digits(return_X_y=True))
    x, y = _digits[0]
    chosen = np.random.default_rng(client).choice(len(x), 64)
    return torch.tensor(x[chosen] / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(y[chosen])


def arrays(model):
    return [v.numpy() for v in model.state_dict().values()]


class Digits(NumPyClient):
    def __init__(self, client):
        self.client = client

    def fit(self, parameters, config):
        torch.set_num_threads(1)
        model = network()
        state = model.state_dict()
        model.load_state_dict(
            {k: torch.tensor(v).reshape(state[k].shape) for k, v in zip(state, parameters, strict=True)}
        )
        x, y = examples(self.client)
        sgd = torch.optim.SGD(model.parameters(), lr=0.05)
        for i in range(0, 64, 16):
            sgd.zero_grad()
            nn.functional.cross_entropy(model(x[i : i + 16]), y[i : i + 16]).backward()
            sgd.step()
        return arrays(model), 64, {}


ended = []


class Timed(FedAvg):
    def aggregate_fit(self, server_round, results, failures):
        assert len(results) == CLIENTS, (len(results), failures[:1])
        ended.append(time.perf_counter())
        return super().aggregate_fit(server_round, results, failures)


def server(context):
    strategy = Timed(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=CLIENTS,
        min_available_clients=CLIENTS,
        initial_parameters=ndarrays_to_parameters(arrays(network())),
    )
    return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=ROUNDS))


start = time.perf_counter()
run_simulation(
    ServerApp(server_fn=server),
    ClientApp(client_fn=lambda c: Digits(int(c.node_config["partition-id"])).to_client()),
    num_supernodes=CLIENTS,
    backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": 2}},
)
seconds = float(np.diff(ended).mean())
first, rate = ended[0] - start, CLIENTS / seconds
print(f"flower clients={CLIENTS} first_round_s={first:.1f} round_s={seconds:.3f} clients_per_s={rate:.1f}")
