"""The code in docs/add-a-method.md does what the page says."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import create_model

from fedtiny.client.world import World
from fedtiny.config.load import load
from fedtiny.config.schema import RunConfig
from fedtiny.forecast.rehearsal import rehearse
from fedtiny.methods import Method
from fedtiny.methods.aggregation import Mean
from fedtiny.prepare import Prepared, prepare
from fedtiny.run import run
from fedtiny.sparse.network import Network
from tests import test_contract as contract
from tests.conftest import SMOKE

PAGE = SMOKE.parent.parent / "docs" / "add-a-method.md"


def code() -> str:
    (found,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert isinstance(found, str)
    return found


@pytest.fixture
def kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Method]:
    """The page's class, from a file of its own, as a method in the package would be."""
    path = tmp_path / "fedset.py"
    path.write_text(code(), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("fedset", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fedset", module)
    spec.loader.exec_module(module)
    found: type[Method] = module.FedSet
    assert issubclass(found, Method)
    return found


@pytest.fixture
def method(kind: type[Method]) -> Method:
    return kind.model_validate({"density": 0.05, "adjust_every": 1})


def test_it_has_60_lines_at_most() -> None:
    lines = code().splitlines()
    assert len([line for line in lines if line.strip()]) <= 60
    assert max(map(len, lines)) <= 120


def test_the_contracts_questions(method: Method, network: Network, world: World, tmp_path: Path) -> None:
    contract.test_density_is_never_above_the_target_and_pruned_weights_are_0(method, network, world)
    contract.test_uploads_have_exact_zeros_and_measured_bytes(method, network, world)
    contract.test_absorb_leaves_its_arguments_alone_and_ignores_who_finished_first(method, Mean(), network, world)
    contract.test_begin_ignores_who_finished_first(method, network, world)
    contract.test_equal_seeds_give_equal_bits(method, network, world)
    contract.test_save_load_and_one_round_equal_two_rounds(method, network, world, tmp_path)
    contract.test_rounds_at_rest_leave_the_mask_alone(method, network, world)


def test_it_moves_the_share_it_says_and_grows_at_0(method: Method, network: Network, world: World) -> None:
    fleet, state = contract.begun(method, network, world)
    state = contract.advance(method, network, fleet, state, 1)  # round 0 rests
    after = contract.advance(method, network, fleet, state, 1)
    assert state.mask is not None
    assert after.mask is not None
    for name, keep in after.mask.keep.items():
        old = state.mask.keep[name]
        assert int(keep.sum()) == int(old.sum())
        assert int((keep & ~old).sum()) == min(int(0.3 * int(old.sum())), int(old.sum()) - 1)
        assert not after.weights[name][keep & ~old].any()


def test_a_real_run_of_it_and_what_it_was_said_to_cost(kind: type[Method], tmp_path: Path) -> None:
    prepared = prepared_with(kind, density=0.05, adjust_every=2)
    foreseen = rehearse(prepared)
    folder = tmp_path / "run"
    folder.mkdir()
    result = run(prepared, folder)
    assert [sum(record.exchanged.values()) > 0 for record in result.records] == [False, False, True, False]
    assert [x.upload_bytes for x in foreseen.rounds] == [x.upload_bytes for x in result.records]
    assert [x.download_bytes for x in foreseen.rounds] == [x.download_bytes for x in result.records]


def test_what_cannot_be_is_told_before_it_starts(kind: type[Method], network: Network) -> None:
    with pytest.raises(ValueError, match="the least density is"):
        kind.model_validate({"density": 1e-5}).check(network, np.random.default_rng(0))


def prepared_with(kind: type[Method], **settings: float) -> Prepared:
    """The smoke preset with a method that the union does not know."""
    config = create_model("Config", __base__=RunConfig, method=(kind, ...))
    tree = load([SMOKE]).model_dump(mode="json") | {"method": settings}
    return prepare(config.model_validate(tree))
