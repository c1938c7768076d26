"""Packed networks: what is read is what was written, in little more than its entropy; broken files are refused."""

import struct
import time
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtiny.export.compute import compute
from fedtiny.export.dead import without_dead
from fedtiny.export.graph import Conv, Graph, Linear, MeanPool, Node
from fedtiny.export.pack import Values, entropy_bits, pack
from fedtiny.export.packed import MAGIC, unpack
from fedtiny.export.trace import trace
from fedtiny.models.zoo import AnyModel, ResNet8, ResNet18
from tests.export.networks import FAMILIES, pictures, pruned

KINDS: tuple[Values, ...] = ("float32", "float16", "int8")


def names(count: int) -> list[str]:
    return [f"class {i}" for i in range(count)]


@pytest.mark.parametrize("model", FAMILIES, ids=lambda model: f"{model.name}-{model.normalisation}")
@pytest.mark.parametrize(("density", "classes"), [(1.0, 10), (0.3, 1), (0.02, 3), (0.0, 2)])
def test_every_family_comes_back_to_the_bit_and_its_rounded_values_nearly(
    model: AnyModel, density: float, classes: int
) -> None:
    graph = without_dead(trace(pruned(model, 3, classes, density, 5), (3, 13, 13), (0.5,), (0.5,)))
    images = pictures(2, (3, 13, 13), 3)
    logits = compute(graph, images)
    for values, tolerance in zip(KINDS, (0.0, 0.01, 0.2), strict=True):
        read, classes_read = unpack(pack(graph, names(classes), values))
        assert classes_read == tuple(names(classes))
        assert np.abs(compute(read, images) - logits).max() <= tolerance * max(1.0, np.abs(logits).max())


def test_a_small_file_byte_by_byte() -> None:
    """One pixel, two classes: of two weights of the matrix the second is kept."""
    weight = np.array([[[[2.0]]]], np.float32)
    graph = Graph(
        (1, 1, 1),
        (
            Node("a", Conv(weight, np.array([0.5], np.float32)), ("image",), (1, 1, 1)),
            Node("pool", MeanPool(), ("a",), (1,)),
            Node(
                "head",
                Linear(np.array([[0.0], [1.5]], np.float32), np.array([0, 1], np.float32)),
                ("pool",),
                (2,),
            ),
        ),
    )
    body = bytes([0, 1, 1, 1, 3]) + b"x\ny" + bytes([3])
    body += bytes([8 + 0, 1, 1, 1, 0, 0]) + struct.pack("<ff", 2.0, 0.5)
    body += bytes([8 + 5])
    body += bytes([8 + 1, 2, 1, 0b01000000]) + struct.pack("<fff", 1.5, 0.0, 1.0)
    assert pack(graph, ["x", "y"], "float32") == MAGIC + struct.pack("<I", zlib.crc32(body)) + body


@pytest.mark.parametrize("values", KINDS)
@pytest.mark.parametrize(
    ("model", "density"), [(ResNet8(width=16), 0.05), (ResNet8(width=16), 0.2), (ResNet18(width=16), 0.01)]
)
def test_size_is_within_two_percent_of_the_entropy(model: AnyModel, density: float, values: Values) -> None:
    graph = trace(pruned(model, 1, 10, density, 0), (1, 8, 8), (0.5,), (0.5,))
    # What the file says beside masks and values: its operations, and what classes are called.
    assert len(pack(graph, [str(i) for i in range(10)], values)) <= 1.02 * entropy_bits(graph, values) / 8


@given(st.lists(st.booleans(), min_size=1, max_size=300), st.sampled_from(KINDS))
def test_any_mask_comes_back(kept: list[bool], values: Values) -> None:
    weight = np.array(kept, np.float32)[None] * np.float32(2)
    node = Node("head", Linear(weight, np.zeros(1, np.float32)), ("image",), (1,))
    image = (len(kept), 1, 1)
    pool = Node("pool", MeanPool(), ("image",), (len(kept),))
    graph = Graph(image, (pool, Node("head", node.operation, ("pool",), (1,))))
    (_, head) = unpack(pack(graph, ["one"], values))[0].nodes
    assert isinstance(head.operation, Linear)
    assert np.allclose(head.operation.weight, weight, atol=0.02)
    assert ((head.operation.weight != 0) == np.array(kept)).all()


def small() -> bytes:
    graph = trace(pruned(ResNet8(width=2), 1, 3, 0.2, 1), (1, 8, 8), (0.5,), (0.5,))
    return pack(without_dead(graph), names(3), "int8")


def test_truncated_and_flipped_files_are_refused() -> None:
    data = small()
    for cut in range(len(data)):
        with pytest.raises(ValueError, match=r"^its? "):
            unpack(data[:cut])
    for i in range(0, len(data), 3):
        with pytest.raises(ValueError, match=r"^its? "):
            unpack(data[:i] + bytes([data[i] ^ 16]) + data[i + 1 :])
    with pytest.raises(ValueError, match="checksum"):
        unpack(data + b"\0")


def hostile(body: bytes) -> None:
    """A file whose checksum is right is read or refused in a line, soon and in little memory."""
    with suppress(ValueError):
        unpack(MAGIC + struct.pack("<I", zlib.crc32(body)) + body)


@settings(max_examples=100)
@given(st.data())
def test_hostile_files_are_refused(data: st.DataObject) -> None:
    body = bytearray(small()[12:])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    hostile(bytes(body))


@pytest.mark.slow
def test_a_minute_of_hostile_files() -> None:
    rng, whole, end = np.random.default_rng(0), small()[12:], time.monotonic() + 60
    while time.monotonic() < end:
        body = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            at = rng.integers(len(body))
            body[at : at + rng.integers(3)] = rng.bytes(int(rng.integers(4)))
        hostile(bytes(body))
