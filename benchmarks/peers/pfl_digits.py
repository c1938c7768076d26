"""Clients per second of pfl-research, one process, on the work of ../fleet.py: python pfl_digits.py CLIENTS ROUNDS."""

import sys
import time

import numpy as np
import torch
from pfl.internal.ops import pytorch_ops
from pfl.internal.ops.selector import set_framework_module

torch.set_num_threads(1)
set_framework_module(pytorch_ops)

from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel
from sklearn.datasets import load_digits
from torch import nn

CLIENTS, ROUNDS = int(sys.argv[1]), int(sys.argv[2])
X, Y = load_digits(return_X_y=True)


def user(client):
    chosen = np.random.default_rng(int(client)).choice(len(X), 64)
    x = torch.tensor(X[chosen] / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    return Dataset(raw_data=[x, torch.tensor(Y[chosen])], user_id=str(client))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
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

    def loss(self, x, y, eval=False):
        return nn.functional.cross_entropy(self.layers(x), y)

    def metrics(self, x, y, eval=False):
        return {}


ended = []


class Timed(TrainingProcessCallback):
    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        ended.append(time.perf_counter())
        return False, Metrics()


network = Network()
data = FederatedDataset(make_dataset_fn=user, user_sampler=get_user_sampler("minimize_reuse", list(range(CLIENTS))))
start = time.perf_counter()
FederatedAveraging().run(
    algorithm_params=NNAlgorithmParams(
        central_num_iterations=ROUNDS, evaluation_frequency=10**6, train_cohort_size=CLIENTS, val_cohort_size=0
    ),
    backend=SimulatedBackend(training_data=data, val_data=data),
    model=PyTorchModel(
        model=network,
        local_optimizer_create=torch.optim.SGD,
        central_optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
    ),
    model_train_params=NNTrainHyperParams(local_num_epochs=1, local_learning_rate=0.05, local_batch_size=16),
    model_eval_params=NNEvalHyperParams(local_batch_size=64),
    callbacks=[Timed()],
)
seconds = float(np.diff(ended).mean())
first, rate = ended[0] - start, CLIENTS / seconds
print(f"pfl clients={CLIENTS} first_round_s={first:.1f} round_s={seconds:.3f} clients_per_s={rate:.1f}")
