"""The tiny world that tests share: a small network, made-up pictures, three clients, no Ray."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import fedtiny.fleets.boot  # noqa: F401 -- before any test imports Ray, which reads the environment that it sets
from fedtiny.client.world import World
from fedtiny.config.load import load
from fedtiny.config.schema import RunConfig
from fedtiny.data.datasets import Synthetic
from fedtiny.fleets.inline import InlineFleet
from fedtiny.forecast.bill import Bill
from fedtiny.forecast.rehearsal import rehearse
from fedtiny.models.zoo import ResNet8
from fedtiny.payload.messages import SERVER
from fedtiny.payload.packing import Layout
from fedtiny.prepare import prepare
from fedtiny.run import RunResult, run
from fedtiny.server.ledger import Ledger
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.network import Network, Prunable

SMOKE = Path(__file__).parent.parent / "configs" / "smoke.yaml"

Runner = Callable[..., RunResult]


@pytest.fixture(scope="session")
def built_kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the session's tests share compiled kernels and measured choices."""
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(autouse=True)
def _private_cache(tmp_path: Path, built_kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "engine").symlink_to(built_kernels)
    monkeypatch.setenv("FEDTINY_CACHE", str(cache))


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for temporary files with a name short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def network() -> Network:
    module = ResNet8(width=4).build(channels=1, classes=4, seed=0)
    return Network.of(module, (1, 8, 8), Prunable())


@pytest.fixture
def layout(network: Network) -> Layout:
    return Layout({name: x.shape for name, x in network.weights.items()}, frozenset(network.prunable))


@pytest.fixture(params=["dense", "sparse"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Both engines: what holds for clients holds for each."""
    return Engine.model_validate({"name": request.param})


@pytest.fixture
def world(network: Network, layout: Layout, engine: Engine) -> World:
    """Three clients with 40, 24 and 33 examples, and the server with 16."""
    data = Synthetic(examples=200)
    examples = data.load()
    cuts = np.split(np.random.default_rng(0).permutation(200), [40, 64, 97, 113])
    shares = {0: cuts[0], 1: cuts[1], 2: cuts[2], SERVER: cuts[3]}
    return World(0, ResNet8(width=4), 1, 4, layout, data, engine, examples.images, examples.labels, shares)


def foreseen(*overrides: str, presets: tuple[Path, ...] = (SMOKE,)) -> dict[str, object]:
    """What a run will cost, for machines."""
    prepared = prepare(load(presets, overrides))
    return Bill.of(prepared, rehearse(prepared), 0.01).told()


def federation(world: World, network: Network, clients: int = 3) -> Ledger:
    """The first clients of the world in this process, as methods see them; all must answer."""
    return Ledger(InlineFleet(world, clients), world.layout, network, len(world.labels))


@pytest.fixture
def smoke() -> RunConfig:
    return load([SMOKE])


@pytest.fixture
def make_run(tmp_path: Path) -> Runner:
    """Runs the smoke preset with overrides; `folder` names its folder under the test's own."""

    def go(*overrides: str, folder: str = "run", presets: tuple[Path, ...] = (SMOKE,)) -> RunResult:
        path = tmp_path / folder
        path.mkdir()
        return run(prepare(load(presets, overrides)), path)

    return go
