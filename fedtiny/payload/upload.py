"""Uploads as bytes: what a real client would put on the wire, and how much of it a server believes.

An upload has nothing to say but numbers: how many examples, the training loss, how many weights; the weights, packed
under the mask that both sides know and written by the order's codec, or none if they are kept back; then the answers
to probes. So its length is known before it is sent, but for whether weights are kept back.
"""

import math
import struct

from torch import Tensor

from fedtiny.payload.messages import Order, Upload
from fedtiny.payload.packing import Packing
from fedtiny.payload.probes import Answer
from fedtiny.payload.values import EXACT, AnyCodec

__all__ = ["LARGEST", "decode_upload", "encode_upload", "upload_bytes"]

_HEAD = struct.Struct("<IfI")  # examples, training loss, weights that follow

DIVERGED = "it diverged; lower training.lr or pretraining.lr"

LARGEST = 1e8
"""Numbers beyond it are refused. Batch-norm variances of narrow layers do reach 1e6; and exact sums need a bound."""


def encode_upload(upload: Upload, codec: AnyCodec = EXACT) -> bytes:
    """The bytes of an upload, weights as the order's codec writes them; the server knows the mask: it sent it."""
    values = b"" if upload.values is None else codec.encode(upload.values, upload.packing)
    sizes = upload.packing.layout.sizes
    head = _HEAD.pack(upload.examples, upload.loss, 0 if upload.values is None else len(upload.values))
    return head + values + b"".join(answer.encode(sizes) for answer in upload.answers)


def upload_bytes(order: Order, packing: Packing) -> int:
    """Bytes of any upload that answers `order`; where weights are kept back it is shorter by theirs."""
    values = 0 if order.training is None else order.codec.size(packing)
    return _HEAD.size + values + sum(probe.answer_bytes(packing.layout.sizes) for probe in order.probes)


def decode_upload(
    buffer: bytes | memoryview, order: Order, packing: Packing, client: int, examples_most: int
) -> Upload:
    """The upload that `encode_upload` wrote in answer to `order`. Nothing in it is taken on trust.

    Args:
        buffer: What came.
        order: What was asked of this client: see `Order.of`.
        packing: Of the network under the order's mask.
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
    length = upload_bytes(order, packing) - (order.codec.size(packing) if trained and not asked else 0)
    if len(buffer) != length:
        raise ValueError(f"must be {length} bytes, got {len(buffer)}")
    values = order.codec.decode(buffer, _HEAD.size, packing) if asked else None
    if values is not None:
        _check_values(values, packing)
    if trained and not math.isfinite(loss):
        raise ValueError(f"the training loss is not finite, got {loss}: {DIVERGED}")
    rest = memoryview(buffer)[_HEAD.size + (order.codec.size(packing) if asked else 0) :]
    answers: list[Answer] = []
    for probe in order.probes:
        answer, taken = probe.decode(rest, packing.layout.sizes)
        answer.check(packing.layout.sizes, packing.places)
        answers.append(answer)
        rest = rest[taken:]
    return Upload(client, examples, loss, values, packing, tuple(answers), len(buffer))


def _check_values(values: Tensor, packing: Packing) -> None:
    # Where all is well, which is nearly always, two passes: NaN fails the comparison too.
    variances = [part for name, part in packing.parts(values).items() if name.endswith(".running_var")]
    if float(values.abs().max()) <= LARGEST and not any((part < 0).any() for part in variances):
        return
    for name, part in packing.parts(values).items():
        if not part.isfinite().all():
            raise ValueError(f"{name} is not finite: {DIVERGED}")
        if (part.abs() > LARGEST).any():
            raise ValueError(f"{name} must lie within {LARGEST:g}, got {float(part.abs().max()):g}: {DIVERGED}")
        if name.endswith(".running_var") and (part < 0).any():
            raise ValueError(f"{name} must not be negative, got {float(part.min()):g}")
