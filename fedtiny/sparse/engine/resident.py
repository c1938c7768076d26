"""A network that stays in memory and takes the form in which a mask is fastest."""

import torch
from torch import Tensor, nn

from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.engine.layers import Sparse
from fedtiny.sparse.engine.sparsify import densify, sparsify
from fedtiny.sparse.mask import Mask, MaskAware
from fedtiny.sparse.network import Weights, load_, weights_of

__all__ = ["Resident"]


class Resident:
    """Owns a module, and changes its form only when the mask does.

    Attributes:
        module: The module. Its weights are read and written by name, whatever its form.
    """

    def __init__(self, module: nn.Module, engine: Engine) -> None:
        """Takes the module, dense; the engine must be `sparse` or `dense`."""
        assert engine.name != "auto", "auto is resolved before a run"
        self.module, self._engine = module, engine
        self._mask: Mask | None = None
        self._form = module
        self._tensors = _tensors(module)
        named = module.named_modules()
        self._aware = {f"{name}.weight": layer for name, layer in named if isinstance(layer, MaskAware)}

    def under(self, mask: Mask | None) -> nn.Module:
        """What to call while `mask` holds. What was returned before must not be called any more."""
        dense = self._engine.name == "dense"
        if dense and not self._aware:
            return self.module
        if mask is not self._mask and not (mask is not None and mask.equals(self._mask)):
            for name, layer in self._aware.items():
                layer.keep_only(None if mask is None else mask.keep.get(name))
            if not dense:
                self._mask, self._form = None, self.module  # should what follows fail
                densify(self.module)
                self._form = self.module if mask is None else sparsify(self.module, mask, self._engine.dense_above)
                # A form may be the module itself and yet hold vectors: where there was nothing to fuse.
                whole = not any(isinstance(layer, Sparse) for layer in self.module.modules())
                self._tensors = _tensors(self.module) if whole else {}
        self._mask = mask
        return self._form

    # Dense, the tensors are read and written as they are: PyTorch's state dictionaries cost more than a small network.

    def load_(self, weights: Weights) -> None:
        """Copies `weights` into the module."""
        if not self._tensors:
            load_(self.module, weights)
            return
        assert self._tensors.keys() == weights.keys()
        with torch.no_grad():
            for name, tensor in self._tensors.items():
                tensor.copy_(weights[name])

    def holding(self, weights: Weights, mask: Mask | None) -> nn.Module:
        """What to call for these weights under this mask, in evaluation mode. Else as `under`."""
        form = self.under(mask).eval()
        self.load_(weights)
        return form

    @property
    def weights(self) -> Weights:
        """The module's weights, dense; they may be the module's own, so that what changes it changes them."""
        return self._tensors or weights_of(self.module)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and floating-point buffers by name, in the order of the state dictionary."""
    named = dict(module.named_parameters()) | dict(module.named_buffers())
    return {name: named[name].detach() for name in module.state_dict() if named[name].is_floating_point()}
