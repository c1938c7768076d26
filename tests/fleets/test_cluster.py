"""Clusters: nodes on this machine."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from fedtiny.__main__ import main
from fedtiny.client.world import World
from fedtiny.fleets import Inline, RayActors
from fedtiny.fleets.knock import absence
from fedtiny.fleets.ray import RayFleet
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.network import Network
from tests.conftest import SMOKE
from tests.fleets.test_fleets import answers, order_for

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes with room for an actor each."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def test_the_running_cluster_is_found_by_itself_and_runs_equal_those_of_this_process(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    assert absence(cluster.address) == ""
    shas = set()
    for fleet in (["fleet.name=ray", "fleet.address=auto"], ["fleet.name=inline"]):
        folder = tmp_path / fleet[0]
        assert main(["run", str(SMOKE), *fleet, f"out={folder}", "rounds=1", "engine=dense"]) == 0
        shas.add(json.loads((folder / "summary.json").read_text())["weights_sha256"])
    assert len(shas) == 1


def test_the_doctor_asks_every_node(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    bare = cluster.add_node(num_cpus=0, env_vars={"CXX": "no-such-compiler"})
    try:
        assert main(["doctor", "--thorough", "--json", "fleet.name=ray", "fleet.address=auto"]) == 0
    finally:
        cluster.remove_node(bare)
    found = [x for x in json.loads(capsys.readouterr().out)["findings"] if x["what"].startswith(("Ray", "node"))]
    assert [x["state"] for x in found].count("ok") == 3  # Ray, and two of three nodes
    (wrong,) = [x for x in found if x["state"] != "ok"]
    assert wrong["what"].endswith("): compiler")
    assert wrong["text"].startswith("no C++ compiler (looked for no-such-compiler)")


@pytest.mark.parametrize("engine", [Engine(name="dense")], ids=["dense"])
def test_a_cluster_is_joined_and_the_loss_of_a_node_changes_no_bit(
    cluster: Cluster, network: Network, world: World
) -> None:
    """node_loss: one of two nodes goes while clients are out."""
    with Inline().open(world, 3, 3) as inline:
        clean = answers(inline, order_for(network), range(3))
    with RayActors(address=cluster.address).open(world, 3, 3) as fleet:
        assert isinstance(fleet, RayFleet)
        assert fleet.actors == 2
        assert answers(fleet, order_for(network), range(3)) == clean
        asked = fleet.send(order_for(network), range(3))
        told = [next(asked)]
        (node,) = cluster.worker_nodes
        cluster.remove_node(node, allow_graceful=False)
        told += list(asked)
        assert {reply.client: reply.buffer for reply in told} == clean
        assert answers(fleet, order_for(network), range(3)) == clean
