"""Where sparsity gains nothing, and why."""

from fedtiny.config.budget import DEVICES
from fedtiny.deploy.row import Row

__all__ = ["remark"]


def remark(row: Row, dense: Row, pruned: bool, smaller: bool) -> str:
    """What a reader should know of a row; empty if its figures say all.

    Args:
        row: What was measured.
        dense: The same of dense PyTorch.
        pruned: Whether there is a mask.
        smaller: Whether dead channels were removed.
    """
    kind, *_ = row.name.split()
    if row.name == dense.name:
        return ""
    said = []
    if kind == "onnx":
        said.append("no gain here: ONNX stores and multiplies zeros like other weights")
        if pruned and smaller:
            said.append("but dead channels are gone")
    elif kind == "torch":
        zeros = ", with zeros and dead channels in it," if pruned else ""
        said.append(f"no gain here: a dense program{zeros} for what reads torch.export")
    elif not pruned:
        said.append("no gain here: nothing is pruned")
    elif row.seconds is not None and dense.seconds is not None and row.seconds > dense.seconds:
        said.append("no gain in time here: the network is too small, or too dense, for it")
    if kind == "packed":
        said.append("for storing and sending; timed as read into PyTorch's kernels")
    if kind == "c":
        said.append("the file is source text; flash is what a device holds")
        if row.flash_bytes is not None and row.ram_bytes is not None:
            fits = [
                name
                for name, room in DEVICES.items()
                if row.flash_bytes <= room["flash_bytes"] and row.ram_bytes <= room["ram_bytes"]
            ]
            said.append(f"fits half of {', '.join(fits)}" if fits else "fits half of no device of docs/budget.md")
    return "; ".join(said)
