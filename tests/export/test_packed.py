"""Packed networks: what was packed comes back, in about as few bytes as it can; anything else is refused."""

import math
import time
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedtiny.export.dead import without_dead
from fedtiny.export.graph import Clip, Conv, Graph, Linear, MeanPool, Node
from fedtiny.export.pack import entropy_bits, pack
from fedtiny.export.packed import unpack
from fedtiny.export.trace import trace
from fedtiny.export.values import Values
from fedtiny.models.zoo import AnyModel, ResNet8, ResNet18
from tests.export.compute import compute
from tests.export.networks import FAMILIES, pictures, pruned


def tiny() -> Graph:
    """One convolution of one pixel with weight 2 and bias 0.5, ReLU, mean, and a head of two classes."""
    weight = np.full((1, 1, 1, 1), 2, np.float32)
    head = Linear(np.array([[1], [0]], np.float32), np.array([0, 3], np.float32))
    return Graph(
        (1, 2, 2),
        (
            Node("conv", Conv(weight, np.array([0.5], np.float32)), ("image",), (1, 2, 2)),
            Node("relu", Clip(math.inf), ("conv",), (1, 2, 2)),
            Node("pool", MeanPool(), ("relu",), (1,)),
            Node("head", head, ("pool",), (2,)),
        ),
    )


def test_a_file_byte_by_byte() -> None:
    body = b"FTP1" + bytes(
        [
            *(0, 1, 2, 2, 3, *b"a\nb", 4),  # float32; 1 channel, 2 x 2; names of 3 bytes; 4 nodes
            *(0 + 8 * 1, 1, 1, 1, 0),  # convolution of the one before: 1 output, kernel 1, stride 1, padding 0
            *(32, 0, *np.float32(2).tobytes(), *np.float32(0.5).tobytes()),  # no place is pruned; weight; bias
            *(3 + 8 * 1, 0),  # clip, no limit
            6 + 8 * 1,  # mean
            *(2 + 8 * 1, 2),  # linear: 2 outputs
            *(0, 1, 0b10000000, *np.float32(1).tobytes()),  # 1 byte of gaps: the first place is kept
            *(*np.float32(0).tobytes(), *np.float32(3).tobytes()),
        ]
    )
    data = pack(tiny(), ("a", "b"))
    assert data == body + zlib.crc32(body).to_bytes(4, "little")
    graph, classes = unpack(data)
    assert classes == ("a", "b")
    # relu(2 * 0.25 + 0.5) = 1
    assert compute(graph, np.full((1, 1, 2, 2), 0.25, np.float32)).tolist() == [[1, 3]]


@pytest.mark.parametrize("model", FAMILIES, ids=lambda model: f"{model.name}-{model.normalisation}")
@pytest.mark.parametrize(("density", "size", "classes"), [(1.0, 16, 10), (0.2, 9, 2), (0.02, 17, 1), (0.0, 8, 3)])
def test_every_family_comes_back(model: AnyModel, density: float, size: int, classes: int) -> None:
    graph = without_dead(trace(pruned(model, 3, classes, density, 5), (3, size, size), (0.4,), (0.3,)))
    exact, names = unpack(pack(graph, [f"c{n}" for n in range(classes)]))
    assert names == tuple(f"c{n}" for n in range(classes))
    assert [node.shape for node in exact.nodes] == [node.shape for node in graph.nodes]
    images = pictures(2, (3, size, size), 1)
    assert (compute(exact, images) == compute(graph, images)).all()
    half, _ = unpack(pack(graph, names, "float16"))
    assert np.abs(compute(half, images) - compute(graph, images)).max() <= 0.01 * max(
        1, np.abs(compute(graph, images)).max()
    )
    whole, _ = unpack(pack(graph, names, "int8"))
    for node, other in zip(graph.nodes, whole.nodes, strict=True):
        if isinstance(node.operation, Conv | Linear):
            assert isinstance(other.operation, Conv | Linear)
            rows = [x.weight.reshape(len(x.weight), -1) for x in (node.operation, other.operation)]
            # Half a step, and steps are up to 2^(1/8) longer than needed.
            assert (np.abs(rows[0] - rows[1]) <= np.abs(rows[0]).max(axis=1, keepdims=True) / 127 * 0.55 + 1e-7).all()
            assert ((rows[0] != 0) | (rows[1] == 0)).all()


@pytest.mark.parametrize("values", ["float32", "float16", "int8"])
def test_the_size_is_within_two_per_cent_of_the_entropy(values: Values) -> None:
    rng = np.random.default_rng(0)
    graphs = [without_dead(trace(pruned(ResNet18(width=16), 3, 10, 0.05, 2), (3, 32, 32), (0.4,), (0.3,)))]
    for density in (0.003, 0.01, 0.05, 0.2, 0.4, 0.5, 0.7, 0.9, 0.99, 1.0):
        weight = rng.standard_normal((64, 256), np.float32) * (rng.random((64, 256)) < density)
        nodes = (
            Node("pool", MeanPool(), ("image",), (256,)),
            Node("head", Linear(weight, np.ones(64, np.float32)), ("pool",), (64,)),
        )
        graphs.append(Graph((256, 8, 8), nodes))
    for graph in graphs:
        ideal = entropy_bits(graph, values) / 8
        classes = [str(n) for n in range(graph.nodes[-1].shape[0])]
        size = len(pack(graph, classes, values)) - len("\n".join(classes))
        assert ideal <= size <= 1.02 * ideal + 24  # magic, checksum and two nodes


def test_what_cannot_be_written_is_refused() -> None:
    def with_bias(bias: float) -> Graph:
        first, *rest = tiny().nodes
        conv = Conv(np.ones((1, 1, 1, 1), np.float32), np.array([bias], np.float32))
        return Graph((1, 2, 2), (Node("conv", conv, first.inputs, first.shape), *rest))

    with pytest.raises(ValueError, match=r"conv: .*finite"):
        pack(with_bias(math.nan), "ab")
    with pytest.raises(ValueError, match=r"conv: .*at most 65504 .*use float32"):
        pack(with_bias(1e5), "ab", "float16")
    assert pack(with_bias(1e5), "ab")
    with pytest.raises(ValueError, match=r"a name for each of 2 classes"):
        pack(tiny(), ["a\nb", "c"])


def sealed(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


SAMPLE = pack(without_dead(trace(pruned(ResNet8(width=3), 1, 3, 0.1, 0), (1, 8, 8), (0.5,), (0.5,))), "abc")


def refused(data: bytes) -> str:
    """Why it is; empty if it can be read."""
    try:
        unpack(data)
    except ValueError as error:
        reason = str(error)
    else:
        return ""
    assert reason.count("\n") == 0
    return reason


def test_truncated_and_flipped_files_are_refused() -> None:
    assert not refused(SAMPLE)
    assert all(refused(SAMPLE[:n]) for n in range(len(SAMPLE)))
    assert all(refused(SAMPLE[:n] + bytes([SAMPLE[n] ^ 1 << n % 8]) + SAMPLE[n + 1 :]) for n in range(len(SAMPLE)))
    assert refused(SAMPLE + b"\0")


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b"FTP2\0", "CRC-32"),
        (b"FTP1\3", "kind below 3"),
        (b"FTP1\0\1\2\2\0\0", "between 1 and 4096 nodes"),
        (b"FTP1\0\1\2\2\0\x81\x20" + b"\x0e" * 4097, "between 1 and 4096 nodes"),
        (b"FTP1\0\1\2\2\0\1\x0f", "must read earlier ones"),
        (b"FTP1\0\1\2\2\0\1\x16", "must read earlier ones"),
        (b"FTP1\0\1\2\2\0\1\6", "must read earlier ones"),
        (b"FTP1\0\1\2\2\0\1\x08\xff\xff\xff\x7f\xff\x01\1\0", "must have weights, not over"),
        (b"FTP1\0\1\2\2\0\1\x08\0\1\1\0", "must have weights"),
        (b"FTP1\0\1\2\2\0\1\x08\1\1\1\0\x00\x01\x40", "places must lie in their tensor"),
        (b"FTP1\0\1\2\2\0\1\x08\1\1\1\0\x00\x02\0\0", "places must lie in their tensor"),
        (b"FTP1\0\1\2\2\0\1\x08\1\1\1\0\x02\x01\x80\0", "in as few bits as they need"),
        (b"FTP1\0\1\2\2\0\1\x08\1\1\1\0\x40\0", "in as few bits as they need"),
        (b"FTP1\0\1\x80\x80\1\x80\x80\1\0\5" + b"\x0b\0" * 5, "node 1: nodes must make 1 number or more"),
        (b"FTP1\0\1\x80\x80\2\x80\x80\1\0\1\x0e", "between 1 and 268435456 pixels"),
        (b"FTP1\0\1\2\2\0\1\x08\1\1\1\0\x20\0\0\0\x80\x7f\0\0\0\0", "values must be finite"),
        (b"FTP1\0\1\2\2\0\xff\xff\xff\xff", "a number must be below"),
        (b"FTP1\0\1\2\2\0\1\x0e!", "must end after its last"),
        (b"FTP1\0\1\0\2\0\1\x0e", "must have between 1 and 268435456 pixels"),
        (b"FTP1\0\1\2\2\0\1\x0d\0\1", "window of a pixel"),
        (b"FTP1\0\1\2\2\0\1\x0b\0", "must make a logit"),
        (b"FTP1\0\1\2\2\0\1\x08\1\1\0\0\x20\0" + bytes(8), "node 1: a window must fit"),
        (b"FTP1\0\1\2\2\2\xff\xff\1\x0e", "decode"),
    ],
)
def test_hostile_files_are_refused_for_what_they_are(body: bytes, rule: str) -> None:
    assert rule in refused(sealed(body))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_files_with_a_right_checksum_and_wrong_bytes_are_read_or_refused(data: st.DataObject) -> None:
    body = bytearray(SAMPLE[:-4])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(4, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    refused(sealed(bytes(body[: data.draw(st.integers(5, len(body)))])))


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tail: bytes) -> None:
    refused(tail)
    refused(sealed(b"FTP1" + tail))


@pytest.mark.slow
def test_a_minute_of_hostile_files() -> None:
    rng = np.random.default_rng(0)
    end, read = time.monotonic() + 60, 0
    while time.monotonic() < end:
        body = bytearray(SAMPLE[:-4])
        for place in rng.integers(4, len(body), rng.integers(1, 6)):
            body[place] = rng.integers(256)
        read += not refused(sealed(bytes(body[: rng.integers(5, len(body) + 1)])))
    assert read  # some bytes are values, and any will do


@given(st.lists(st.booleans(), min_size=1, max_size=300))
def test_any_places_come_back(keep: list[bool]) -> None:
    weight = np.array([keep], np.float32).reshape(1, -1)
    nodes = (
        Node("pool", MeanPool(), ("image",), (len(keep),)),
        Node("head", Linear(weight, np.zeros(1, np.float32)), ("pool",), (1,)),
    )
    read, _ = unpack(pack(Graph((len(keep), 1, 1), nodes), "a"))
    assert isinstance(read.nodes[1].operation, Linear)
    assert (read.nodes[1].operation.weight == weight).all()
