"""The layout of the engine: logically (N, C, H, W), physically C, H, W, N.

Element-wise operations keep the strides of what they are given, so a network needs no change beyond its layers.
"""

from torch import Tensor

from fedtiny.sparse.engine.memory import buffer

__all__ = ["empty", "plane", "planes"]


def empty(N: int, C: int, H: int, W: int, *, like: Tensor) -> Tensor:
    """An uninitialised (N, C, H, W) tensor in the layout, of the type of `like`.

    One pixel is left unused between planes: at powers of two, the same pixel of all channels would otherwise fall on
    the same few lines of the cache.
    """
    pixels = H * W + (1 if H * W > 1 else 0)
    flat = buffer(C * pixels * N, like)
    # Not a view: what comes out of a layer may be changed in place.
    strides = (1, pixels * N, W * N, N)
    return like.new_empty(0).set_(flat.untyped_storage(), flat.storage_offset(), (N, C, H, W), strides)


def plane(x: Tensor) -> int:
    """Numbers from one channel of `x` to the next; 0 if `x` is not in the layout."""
    N, C, H, W = x.shape
    lanes, channels, rows, pixels = x.stride()
    # A stride says nothing where there is only one entry.
    fits = (N == 1 or lanes == 1) and (W == 1 or pixels == N) and (H == 1 or rows == W * N)
    if not fits or (C > 1 and (channels < H * W * N or channels % N)):
        return 0
    return channels if C > 1 else H * W * N


def planes(x: Tensor) -> Tensor:
    """`x` itself if it is in the layout, otherwise a copy that is."""
    return x if plane(x) else empty(*x.shape, like=x).copy_(x)
