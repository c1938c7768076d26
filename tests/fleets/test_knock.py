"""Knocks at real doors: nobody, somebody else, a silent one; what a head says, `test_cluster.py` asks one."""

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray._private.services import find_gcs_addresses

from fedtiny.__main__ import main
from fedtiny.config.load import ConfigError, load
from fedtiny.fleets.boot import found
from fedtiny.fleets.knock import absence
from tests.conftest import SMOKE


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


class Quiet(http.server.BaseHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def web_page() -> Iterator[str]:
    """A web server, such as Ray's dashboard is: HTTP/1 alone."""
    with http.server.HTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_nobody_is_there() -> None:
    assert absence(f"127.0.0.1:{free_port()}") == "Connection refused"


def test_somebody_else_is_there(web_page: str) -> None:
    assert absence(web_page) == "somebody else listens there"


def test_whoever_says_nothing_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        assert absence(f"127.0.0.1:{door.getsockname()[1]}", patience_s=0.2) == "no answer within 0.2 s"


@pytest.mark.parametrize("address", ["127.0.0.1", ":6379", "127.0.0.1:70000", "127.0.0.1:0"])
def test_what_is_no_address_is_told(address: str) -> None:
    assert absence(address) == "this is not HOST:PORT"


@pytest.mark.parametrize("address", ["ray://head:10001", "http://head:8265", "head", "local", "a b:1"])
def test_a_configuration_takes_no_address_of_another_kind(address: str) -> None:
    with pytest.raises(ConfigError) as told:
        load([SMOKE], ["fleet.name=ray", f"fleet.address={address}"])
    (line,) = told.value.problems
    assert line.startswith("fleet.address: must be auto, or HOST:PORT of a cluster's head")


@pytest.mark.parametrize("address", ["auto", "head:6379", "10.0.0.7:6380", "'[::1]:6379'"])
def test_a_configuration_takes_these(address: str) -> None:
    load([SMOKE], ["fleet.name=ray", f"fleet.address={address}"])


def test_a_wrong_address_is_one_line_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], web_page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    asked = ["run", str(SMOKE), "fleet.name=ray", f"out={tmp_path}/run"]
    assert main([*asked, f"fleet.address=127.0.0.1:{port}"]) == 2
    monkeypatch.setenv("RAY_ADDRESS", web_page)
    assert main([*asked, "fleet.address=auto"]) == 2
    end = "start one with: ray start --head"
    assert capsys.readouterr().err.splitlines() == [
        f"config: fleet.address: there is no Ray at 127.0.0.1:{port} (Connection refused); {end}",
        f"config: fleet.address: there is no Ray at auto, $RAY_ADDRESS={web_page} (somebody else listens there); {end}",
    ]
    assert not (tmp_path / "run").exists()


@pytest.mark.ray
def test_where_no_node_runs_there_is_nothing_to_find() -> None:
    """Ray looks among this machine's processes: with one of somebody else's, this cannot be asked."""
    if find_gcs_addresses():
        pytest.skip("a Ray of somebody else's runs on this machine")
    told = r"fleet\.address: there is no Ray at auto \(this machine is no node of one, .* ray start --head"
    with pytest.raises(ValueError, match=told):
        found("auto")
