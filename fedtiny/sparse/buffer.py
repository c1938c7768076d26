"""The k largest of a stream, in O(k) memory."""

import torch
from torch import Tensor

__all__ = ["TopBuffer"]


class TopBuffer:
    """Keeps the `size` entries of largest magnitude of a tensor that is pushed piece by piece.

    The result equals a dense top-k of the whole tensor, ties going to the lower index. At most
    2 * max(size, 1024) entries are held at any time, however long the stream is.
    """

    def __init__(self, size: int) -> None:
        """Makes an empty buffer of `size` >= 0 entries."""
        self._size = size
        self._piece = max(size, 1024)
        self.indices = torch.empty(0, dtype=torch.int64)
        """(<= size,) int64, ascending: where the kept entries stand in the stream."""
        self.values = torch.empty(0)
        """(<= size,) float32: the kept entries, signed."""
        self.peak = 0
        """The most entries that were ever held at once."""

    @property
    def found(self) -> tuple[Tensor, Tensor]:
        """`indices` and `values`, on the CPU."""
        return self.indices.cpu(), self.values.cpu()

    def push(self, values: Tensor, keep: Tensor, start: int = 0) -> None:
        """Takes the entries of `values` at which `keep` is False.

        Args:
            values: (N,) float32 on any device, where what is kept then lies; the piece of the stream that begins at
                `start`. Pieces come in order.
            keep: (N,) bool on the same device; True is passed over (the weights that are kept already).
            start: Index of `values[0]` in the whole stream.
        """
        if self._size == 0:
            return
        for begin in range(0, values.numel(), self._piece):
            piece = values[begin : begin + self._piece]
            pruned = (~keep[begin : begin + self._piece]).nonzero().flatten()
            indices = torch.cat([self.indices.to(values.device), pruned + (start + begin)])
            entries = torch.cat([self.values.to(values.device), piece[pruned]])
            self.peak = max(self.peak, len(entries))
            # A stable sort keeps the order of the stream among equals, hence the lower index.
            top = entries.abs().sort(descending=True, stable=True).indices[: self._size].sort().values
            self.indices, self.values = indices[top], entries[top]
