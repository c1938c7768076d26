"""A network that stays in memory and takes the form in which a mask is fastest."""

from torch import nn

from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.engine.sparsify import densify, sparsify
from fedtiny.sparse.mask import Mask

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

    def under(self, mask: Mask | None) -> nn.Module:
        """What to call while `mask` holds. What was returned before must not be called any more."""
        if self._engine.name == "dense":
            return self.module
        if mask is not self._mask and not (mask is not None and mask.equals(self._mask)):
            self._mask, self._form = None, self.module  # should what follows fail
            densify(self.module)
            self._form = self.module if mask is None else sparsify(self.module, mask, self._engine.dense_above)
        self._mask = mask
        return self._form
