"""Uploads as bytes: what a real client would put on the wire, and how much of it a server believes.

An upload has nothing to say but numbers: how many examples, the training loss, how many weights; the weights, packed
under the mask that both sides know and written by the order's codec, or none if they are kept back; then the answers
to probes. So its length is known before it is sent, but for whether weights are kept back.

A client that was asked to move its mask says, before the weights, how: each adjusted layer's mask against the one that
was sent. The weights are packed under the new one. Of such an upload only the most it takes is known before; that is
what it takes, but for a client that finds fewer weights to exchange than it was asked for.
"""

import math
import struct

from torch import Tensor

from fedtiny.payload.bits import pack_mask, unpack_mask
from fedtiny.payload.messages import Order, Upload
from fedtiny.payload.packing import Packing
from fedtiny.payload.probes import LARGEST, Answer, Most
from fedtiny.payload.values import EXACT
from fedtiny.sparse.mask import Mask

__all__ = ["LARGEST", "decode_upload", "encode_upload", "upload_bytes"]

_HEAD = struct.Struct("<IfI")  # examples, training loss, weights that follow

DIVERGED = "it diverged; lower training.lr or pretraining.lr"


def encode_upload(upload: Upload, order: Order | None = None) -> bytes:
    """The bytes of an upload; the server knows the mask, since it sent it, or what the client made of it.

    Args:
        upload: The upload.
        order: What it answers; may be left out where the client's mask is that of the order and its codec is exact.
    """
    masks, codec = b"", EXACT if order is None else order.codec
    if upload.mask is not None:
        assert order is not None
        assert order.adjust is not None
        assert order.mask is not None
        masks = b"".join(pack_mask(upload.mask.keep[name], order.mask.keep[name]) for name in order.adjust.count)
    values = b"" if upload.values is None else codec.encode(upload.values, upload.packing)
    sizes = upload.packing.layout.sizes
    head = _HEAD.pack(upload.examples, upload.loss, 0 if upload.values is None else len(upload.values))
    return head + masks + values + b"".join(answer.encode(sizes) for answer in upload.answers)


def upload_bytes(order: Order, packing: Packing) -> int:
    """Bytes of any upload that answers `order`; where weights are kept back it is shorter by theirs.

    The most it can take where the order moves masks.
    """
    sizes = packing.layout.sizes
    masks = 0 if order.adjust is None else order.adjust.mask_bytes(sizes)
    values = 0 if order.training is None else order.codec.size(packing)
    return _HEAD.size + masks + values + sum(probe.answer_bytes(sizes) for probe in order.probes)


def decode_upload(
    buffer: bytes | memoryview, order: Order, packing: Packing, client: int, examples_most: int
) -> Upload:
    """The upload that `encode_upload` wrote in answer to `order`. Nothing in it is taken on trust.

    Args:
        buffer: What came.
        order: What was asked of this client: see `Order.of`.
        packing: Of the network under the order's mask; what comes back has that of the client's own mask.
        client: Who sent it.
        examples_most: More training examples than this no client can have.

    Raises:
        ValueError: It is not what an honest client could have sent; says why.
    """
    if len(buffer) < _HEAD.size:
        raise ValueError(f"must be at least {_HEAD.size} bytes, got {len(buffer)}")
    examples, loss, count = _HEAD.unpack_from(buffer)
    if not 1 <= examples <= examples_most:
        raise ValueError(f"examples must be from 1 to {examples_most}, got {examples}")
    trained = order.training is not None
    asked = packing.size if trained and order.sends(loss) else 0
    if count != asked:
        whole = sum(packing.layout.sizes.values())
        what = "values at pruned places" if asked and asked < count == whole else "weights of other names or shapes"
        what = "weights that had to be kept back" if trained and not asked else what
        raise ValueError(f"{what}: must send {asked} numbers, got {count}")
    length, start, mask = upload_bytes(order, packing), _HEAD.size, None
    if order.adjust is not None:
        mask, start = _read_mask(memoryview(buffer), order)
        length += start - _HEAD.size - order.adjust.mask_bytes(packing.layout.sizes)
        packing = Packing.of(packing.layout, mask)
    written = order.codec.size(packing) if asked else 0
    if trained and not asked:
        length -= order.codec.size(packing)
    if len(buffer) != length:
        raise ValueError(f"must be {length} bytes, got {len(buffer)}")
    values = order.codec.decode(buffer, start, packing) if asked else None
    if values is not None:
        _check_values(values, packing)
    if trained and not math.isfinite(loss):
        raise ValueError(f"the training loss is not finite, got {loss}: {DIVERGED}")
    rest = memoryview(buffer)[start + written :]
    answers: list[Answer] = []
    seen = order.seen_most(examples)
    most = Most(seen, seen * packing.layout.positions)
    for probe in order.probes:
        answer, taken = probe.decode(rest, packing.layout.sizes)
        answer.check(packing.layout.sizes, packing.places, most)
        answers.append(answer)
        rest = rest[taken:]
    return Upload(client, examples, loss, values, packing, tuple(answers), len(buffer), mask)


def _read_mask(buffer: memoryview, order: Order) -> tuple[Mask, int]:
    """The mask that a client made of the order's, and where it ends."""
    assert order.adjust is not None
    assert order.mask is not None
    keeps, end = dict(order.mask.keep), _HEAD.size
    for name, count in order.adjust.count.items():
        before = keeps[name]
        try:
            keeps[name], end = unpack_mask(buffer, end, before.shape, before)
        except ValueError as error:
            raise ValueError(f"the mask of {name} {error}") from error
        kept, as_before = int(keeps[name].sum()), int(before.sum())
        if kept != as_before:
            raise ValueError(f"the mask of {name} must keep {as_before} weights as before, got {kept}")
        grown = int((keeps[name] & ~before).sum())
        if grown > count:
            raise ValueError(f"the mask of {name} must exchange at most {count} weights, got {grown}")
    return Mask(keeps), end


def _check_values(values: Tensor, packing: Packing) -> None:
    # Where all is well, which is nearly always, one pass: NaN fails the comparisons too.
    least, most = values.aminmax()
    if float(least) >= -LARGEST and float(most) <= LARGEST and not (values[packing.variances] < 0).any():
        return
    for name, part in packing.parts(values).items():
        if not part.isfinite().all():
            raise ValueError(f"{name} is not finite: {DIVERGED}")
        if (part.abs() > LARGEST).any():
            raise ValueError(f"{name} must lie within {LARGEST:g}, got {float(part.abs().max()):g}: {DIVERGED}")
        if name.endswith(".running_var") and (part < 0).any():
            raise ValueError(f"{name} must not be negative, got {float(part.min()):g}")
