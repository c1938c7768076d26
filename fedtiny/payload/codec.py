"""Orders as bytes: what a real server would put on the wire. `upload` has the way back.

Both sides know the network (names, shapes, which weights may be pruned), so tensors travel without names, in the
network's own order. Three bits say whether there is a mask, whether it follows, and whether a limit does (4 bytes: of
the loss above which a client keeps its weights); one bit a tensor says whether that
tensor follows; then, for each tensor in turn,

* if it is masked and the mask follows: one byte, 0 where this layer's mask is known already; otherwise a bitmap, or
  the places that changed, whichever is shorter;
* if it follows: its kept values, or all of them where it is not masked, float32.

Last come the signs of the layers that the client is to adjust, if it is to go by any.

A download is encoded against what the client still holds: tensors it has already are left out, a mask it knows costs
nothing, and training settings travel only when they change. Floats are exact: decoding gives the same bits.
"""

import json
import struct
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedtiny.payload.adjustment import Adjustment
from fedtiny.payload.bits import pack_mask, pack_signs, unpack_mask, unpack_signs
from fedtiny.payload.messages import Order
from fedtiny.payload.packing import Layout
from fedtiny.payload.probes import Probe
from fedtiny.payload.training import Training
from fedtiny.payload.values import EXACT, AnyCodec
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Weights
from fedtiny.value import Value

__all__ = [
    "NOTHING",
    "Held",
    "decode_order",
    "encode_order",
    "heading",
    "held_after",
]

_ORDER = struct.Struct("<ifI")  # round, development share, bytes of the instructions that follow
_LIMIT = struct.Struct("<f")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Held:
    """What a client still holds of earlier orders.

    Attributes:
        weights: The weights it was sent last, if it did not train on them since; otherwise empty.
        mask: The mask it was sent last.
        training: The training settings it was sent last.
    """

    weights: Weights
    mask: Mask | None
    training: Training | None

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for clients that hold the same, as long as what they hold lives."""
        training = None if self.training is None else self.training.model_dump_json()
        return id(self.weights) if self.weights else None, id(self.mask), training


NOTHING = Held({}, None, None)
"""What a client holds that was never asked."""


class _Instructions(Value):
    """The small print of an order, as JSON: only what is not the default is written."""

    training: Training | None = None
    trains: bool = False
    probes: tuple[Probe, ...] = ()
    adjust: Adjustment | None = None
    signed: bool = False
    holdout: float = 0.0
    codec: AnyCodec = EXACT


def held_after(order: Order, held: Held) -> Held:
    """What a client holds once it has carried out `order`."""
    if order.training is None:
        return Held(order.weights, order.mask, held.training)
    return Held({}, order.mask, order.training)


def encode_order(order: Order, held: Held) -> bytes:
    """The bytes that bring `order`, as one client gets it (`Order.of`), to a client that holds `held`."""
    assert not order.personal
    return heading(order, held) + _encode_weights(order, held) + _encode_signs(order)


def _encode_signs(order: Order) -> bytes:
    if order.signs is None:
        return b""
    assert order.mask is not None
    return b"".join(pack_signs(signs, order.mask.keep[name]) for name, signs in order.signs.items())


def heading(order: Order, held: Held) -> bytes:
    """The first part of `encode_order`: all but the weights, their mask and signs."""
    small_print = _Instructions(
        training=None if order.training == held.training else order.training,
        trains=order.training is not None,
        probes=order.probes,
        adjust=order.adjust,
        signed=order.signs is not None,
        holdout=order.holdout,
        codec=order.codec,
    )
    instructions = json.dumps(
        small_print.model_dump(mode="json", exclude_defaults=True) | _kinds(order), separators=(",", ":")
    ).encode()
    return _ORDER.pack(order.round, order.development, len(instructions)) + instructions


def _kinds(order: Order) -> dict[str, object]:
    # A probe's kind is its default, but what tells it from the others; so is a codec's name.
    told: dict[str, object] = {}
    if order.probes:
        told["probes"] = [probe.model_dump(mode="json") for probe in order.probes]
    if order.codec != EXACT:
        told["codec"] = order.codec.model_dump(mode="json")
    return told


def decode_order(buffer: bytes, layout: Layout, held: Held) -> Order:
    """The order that `encode_order` wrote for a client that holds `held`."""
    round, development, length = _ORDER.unpack_from(buffer)
    start = _ORDER.size + length
    small_print = _Instructions.model_validate_json(buffer[_ORDER.size : start])
    weights, mask, limit, end = _decode_weights(memoryview(buffer)[start:], layout, held)
    training = (small_print.training or held.training) if small_print.trains else None
    signs: dict[str, Tensor] | None = None
    if small_print.signed:
        assert small_print.adjust is not None
        assert mask is not None
        signs, end = {}, start + end
        for name in small_print.adjust.count:
            signs[name], end = unpack_signs(memoryview(buffer), end, mask.keep[name])
    return Order(
        round,
        weights,
        mask,
        training,
        small_print.probes,
        development,
        adjust=small_print.adjust,
        signs=signs,
        holdout=small_print.holdout,
        codec=small_print.codec,
        limit=limit,
    )


def _encode_weights(order: Order, held: Held) -> bytes:
    weights, mask, limit = order.weights, order.mask, order.limit
    follows = mask is not None and mask is not held.mask and not mask.equals(held.mask)
    sent = np.array([not _same(held.weights.get(name), tensor) for name, tensor in weights.items()])
    parts = [bytes([(mask is not None) + 2 * follows + 4 * (limit is not None)]), np.packbits(sent).tobytes()]
    if limit is not None:
        parts.append(_LIMIT.pack(limit))
    for (name, tensor), send in zip(weights.items(), sent, strict=True):
        keep = None if mask is None else mask.keep.get(name)
        if follows and keep is not None:
            known = None if held.mask is None else held.mask.keep[name]
            parts.append(b"\0" if _same(known, keep) else b"\1" + pack_mask(keep, known))
        if send:
            parts.append((tensor if keep is None else tensor[keep]).contiguous().numpy().tobytes())
    return b"".join(parts)


def _same(known: Tensor | None, tensor: Tensor) -> bool:
    return known is not None and (known is tensor or known.equal(tensor))


def _decode_weights(buffer: memoryview, layout: Layout, held: Held) -> tuple[Weights, Mask | None, float | None, int]:
    masked, follows = bool(buffer[0] & 1), bool(buffer[0] & 2)
    offset = 1 + (len(layout.shapes) + 7) // 8
    sent = np.unpackbits(np.frombuffer(buffer[1:offset], np.uint8), count=len(layout.shapes))
    limit = None
    if buffer[0] & 4:
        (limit,) = _LIMIT.unpack_from(buffer, offset)
        offset += _LIMIT.size
    weights: dict[str, Tensor] = {}
    keeps = dict(held.mask.keep) if masked and held.mask is not None else {}
    for (name, shape), send in zip(layout.shapes.items(), sent, strict=True):
        if follows and name in layout.prunable:
            offset += 1
            if buffer[offset - 1]:
                keeps[name], offset = unpack_mask(buffer, offset, shape, keeps.get(name))
        if not send:
            weights[name] = held.weights[name]
            continue
        keep = keeps.get(name)
        count = shape.numel() if keep is None else int(keep.sum())
        values = torch.from_numpy(np.frombuffer(buffer, np.float32, count, offset).copy())
        offset += 4 * count
        weights[name] = values.view(shape) if keep is None else _scattered(values, keep)
    return weights, Mask(keeps) if masked else None, limit, offset


def _scattered(values: Tensor, keep: Tensor) -> Tensor:
    tensor = torch.zeros(keep.shape)
    tensor[keep] = values
    return tensor
