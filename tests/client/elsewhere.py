"""A device that is not the CPU, on any machine: it computes on the CPU, but its tensors mix with no CPU tensor.

PyTorch lets Python stand in for a device. `python -m tests.client.elsewhere` makes whole runs there and on the CPU, and
says of each whether the bits are the same. A process of its own: PyTorch looks for devices at its first backward pass.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from fedtiny.client import processor
from fedtiny.config.load import load
from fedtiny.fleets import Inline
from fedtiny.methods import Method
from fedtiny.prepare import prepare
from fedtiny.run import run
from tests.conftest import SMOKE
from tests.test_contract import each_method

NAME = "elsewhere"
_setup_privateuseone_for_python_backend(NAME)
ELSEWHERE = torch.device(NAME, 0)

_aten = torch.ops.aten
_MOVING = (_aten.copy_.default, _aten._to_copy.default)
_INDEXING = (_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default)  # CUDA takes indices of the CPU


class There(Tensor):
    """A tensor of the device."""

    here: Tensor

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: Tensor) -> "There":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=ELSEWHERE,
        )
        made.here = inner
        return made

    def data_ptr(self) -> int:
        return self.here.data_ptr()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        op: torch._ops.OpOverload,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Does on the CPU what is asked, and refuses what CUDA would refuse."""
        kwargs = dict(kwargs or {})
        tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        foreign = [x for x in tensors if not isinstance(x, There)]
        first_is_ours = isinstance(args[0], There) or not isinstance(args[0], Tensor)
        mixes = op in _MOVING or (op in _INDEXING and first_is_ours)
        if not mixes and (any(x.dim() for x in foreign) or (foreign and not first_is_ours and op._schema.is_mutable)):
            raise RuntimeError(f"{op}: tensors on two devices")
        goes = torch.device(str(kwargs.get("device") or ELSEWHERE))
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        args_, kwargs_ = pytree.tree_map_only(There, lambda x: x.here, (args, kwargs))
        known = {id(x.here if isinstance(x, There) else x): x for x in tensors}

        def told(x: Tensor) -> Tensor:
            if id(x) in known:
                return known[id(x)]
            return There(x) if goes.type == NAME else x

        return pytree.tree_map_only(Tensor, told, op(*args_, **kwargs_))


def _inner(x: Tensor) -> Tensor:
    return x.here if isinstance(x, There) else x


def _copy_from(source: Tensor, to: Tensor, non_blocking: bool = False) -> Tensor:
    _inner(to).copy_(_inner(source))
    return to


_library = torch.library.Library("aten", "IMPL")
_library.impl("empty.memory_format", lambda size, dtype=None, **_: There(torch.empty(size, dtype=dtype)), "PrivateUse1")
_library.impl(
    "empty_strided",
    lambda size, stride, dtype=None, **_: There(torch.empty_strided(size, stride, dtype=dtype)),
    "PrivateUse1",
)
_library.impl("_copy_from", _copy_from, "PrivateUse1")


def sha(method: Method, gpus: float, *overrides: str) -> object:
    """The fingerprint of the smoke run's weights with a method."""
    config = load([SMOKE], ["engine=dense", "rounds=2", "pretraining.epochs=1", *overrides])
    config = config.model_copy(update={"method": method, "fleet": Inline(gpus=gpus, retries=0)})
    with tempfile.TemporaryDirectory() as folder:
        return run(prepare(config), Path(folder)).summary["weights_sha256"]


if __name__ == "__main__":
    processor.processor = lambda gpus: ELSEWHERE if gpus else processor.CPU
    names = sys.argv[1:]
    for method in each_method():
        name = str(type(method).model_fields["name"].default)
        if not names or name in names:
            for overrides in ((), ("model.normalisation=weight",)):
                print(name, *overrides, sha(method, 0, *overrides) == sha(method, 1, *overrides), flush=True)
