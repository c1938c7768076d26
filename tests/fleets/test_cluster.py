"""Clusters: two nodes on this machine."""

import pytest
from ray.cluster_utils import Cluster

from fedtiny.client.world import World
from fedtiny.fleets import Inline, RayActors
from fedtiny.fleets.ray import RayFleet
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.network import Network
from tests.fleets.test_fleets import answers, order_for


@pytest.mark.ray
@pytest.mark.parametrize("engine", [Engine(name="dense")], ids=["dense"])
def test_a_cluster_is_joined_and_the_loss_of_a_node_changes_no_bit(network: Network, world: World) -> None:
    """node_loss: two nodes with room for an actor each; one goes while clients are out."""
    with Inline().open(world, 3, 3) as inline:
        clean = answers(inline, order_for(network), range(3))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    try:
        with RayActors(address=cluster.address).open(world, 3, 3) as fleet:
            assert isinstance(fleet, RayFleet)
            assert fleet.actors == 2
            assert answers(fleet, order_for(network), range(3)) == clean
            asked = fleet.send(order_for(network), range(3))
            told = [next(asked)]
            cluster.remove_node(node, allow_graceful=False)
            told += list(asked)
            assert {reply.client: reply.buffer for reply in told} == clean
            assert answers(fleet, order_for(network), range(3)) == clean
    finally:
        cluster.shutdown()


@pytest.mark.ray
@pytest.mark.parametrize("engine", [Engine(name="dense")], ids=["dense"])
def test_a_cluster_that_is_not_there_is_told(world: World) -> None:
    told = r"fleet\.address: there is no Ray at auto .* start one with: ray start --head"
    with pytest.raises(ValueError, match=told), RayActors(address="auto").open(world, 3, 3):
        pass
