"""Finds what follows each batch norm, so that one pass over memory does for all of it.

    batch norm -> (+ another branch) -> ReLU

A symbolic trace shows the network as a graph. Where it cannot be traced, or does something else while it trains than
while it is evaluated, the network is left as it is: right, and slower.
"""

import math
import operator

import torch
from torch import nn
from torch.fx import Graph, GraphModule, Node, Tracer
from torch.nn import functional

from fedtiny.sparse.engine.layers import BatchNorm2d, MaxPool2d, Sparse

__all__ = ["fused"]

_ADD = {operator.add, operator.iadd, torch.add, "add", "add_"}
_CEILING = {
    functional.relu: math.inf,
    functional.relu6: 6.0,
    torch.relu: math.inf,
    torch.relu_: math.inf,
    "relu": math.inf,
    "relu_": math.inf,
    nn.ReLU: math.inf,
    nn.ReLU6: 6.0,
}


class _Tracer(Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Sparse | BatchNorm2d | MaxPool2d) or super().is_leaf_module(m, module_qualified_name)


def _graph(module: nn.Module) -> Graph | None:
    """The network's graph; None if it has no single one."""
    modes = [(child, child.training) for child in module.modules()]
    graphs = []
    try:
        for mode in (True, False):
            for child, _ in modes:
                child.training = mode
            graphs.append(_Tracer().trace(module))
    except Exception:  # Whatever a user's forward does with a stand-in for a tensor, it only means: no graph.
        return None
    finally:
        for child, mode in modes:
            child.training = mode
    codes = [graph.python_code("self").src for graph in graphs]
    return graphs[1] if codes[0] == codes[1] else None


def _only_user(node: Node) -> Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def fused(module: nn.Module) -> nn.Module:
    """The network with each batch norm, addition and ReLU as one step; shares all its layers with `module`."""
    graph = _graph(module)
    if graph is None:
        return module
    layers = dict(module.named_modules())
    calls = [node.target for node in graph.nodes if node.op == "call_module"]

    def ceiling(node: Node) -> float | None:
        what = type(layers[str(node.target)]) if node.op == "call_module" else node.target
        return _CEILING.get(what) if node.op.startswith("call") else None

    changed = False
    for node in list(graph.nodes):
        norm = layers.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, BatchNorm2d) or calls.count(node.target) > 1 or node.kwargs:
            continue
        last, other = node, None
        add = _only_user(node)
        if add is not None and add.op.startswith("call") and add.target in _ADD and not add.kwargs:
            others = [x for x in add.args if x is not node]
            if len(add.args) == 2 and len(others) == 1 and isinstance(others[0], Node):
                last, other = add, others[0]
        relu = _only_user(last)
        top = None if relu is None else ceiling(relu)
        if relu is None or top is None or [x for x in relu.args if isinstance(x, Node)] != [last]:
            continue
        with graph.inserting_before(relu):
            arguments = node.args if other is None else (*node.args, other)
            new = graph.call_module(str(node.target), arguments)
        relu.replace_all_uses_with(new)
        for gone in (relu, last, node) if last is not node else (relu, node):
            graph.erase_node(gone)
        norm.ceiling = top
        changed = True
    return GraphModule(module, graph) if changed else module
