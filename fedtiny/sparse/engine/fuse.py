"""Finds what follows each batch norm, so that one pass over memory does for all of it.

    batch norm -> (+ another branch) -> (ReLU)

A symbolic trace shows the network as a graph. A network is left as it is, right and slower, where it cannot be traced,
does something else while it trains than while it is evaluated, draws random numbers of its own, or where somebody has
hooked a layer and wants to see what passes between.
"""

import math
import operator
import random
from collections.abc import Callable

import torch
from torch import nn
from torch.fx import Graph, GraphModule, Node, Proxy, Tracer
from torch.nn import functional

from fedtiny.sparse.engine.layers import BatchNorm2d, MaxPool2d, Sparse
from fedtiny.sparse.mask import MaskAware

__all__ = ["fused"]

_ADD = {operator.add, torch.add, "add"}
_ADD_IN_PLACE = {operator.iadd, "add_"}
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


def _recorded(how: Callable[[object, object], object]) -> Callable[[Proxy, object], Proxy]:
    def record(self: Proxy, other: object) -> Proxy:
        return self.tracer.create_proxy("call_function", how, (self, other), {})

    return record


class _Proxy(Proxy):
    """Records `x += y` as what it is; torch.fx would take it for `x = x + y` and lose what it does to others' x."""

    __iadd__ = _recorded(operator.iadd)
    __isub__ = _recorded(operator.isub)
    __imul__ = _recorded(operator.imul)
    __itruediv__ = _recorded(operator.itruediv)


class _Tracer(Tracer):
    def proxy(self, node: Node) -> Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Sparse | BatchNorm2d | MaxPool2d | MaskAware) or super().is_leaf_module(
            m, module_qualified_name
        )


def _hooked(module: nn.Module) -> bool:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(child, name) for child in module.modules() for name in hooks)


def _graph(module: nn.Module) -> Graph | None:
    """The network's graph; None if it has no single one."""
    modes = [(child, child.training) for child in module.modules()]
    before, own = (torch.random.get_rng_state(), random.getstate()), set(vars(module))
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
        drawn = not torch.random.get_rng_state().equal(before[0]) or random.getstate() != before[1]
        torch.random.set_rng_state(before[0])
        random.setstate(before[1])
        constants = set(vars(module)) - own  # A trace keeps tensors that forward makes as attributes of the network.
        for name in constants:
            delattr(module, name)
    codes = [graph.python_code("self").src for graph in graphs]
    return None if drawn or constants or codes[0] != codes[1] else graphs[1]


def fused(module: nn.Module) -> nn.Module:
    """The network with each batch norm, addition and ReLU as one step; shares all its layers with `module`."""
    graph = None if _hooked(module) else _graph(module)
    if graph is None:
        return module
    layers = dict(module.named_modules())
    changed = False
    for node in list(graph.nodes):
        if node.op == "call_module" and isinstance(layers.get(str(node.target)), BatchNorm2d) and not node.kwargs:
            changed |= _fuse(graph, node, layers)
    return GraphModule(module, graph) if changed else module


def _fuse(graph: Graph, norm: Node, layers: dict[str, nn.Module]) -> bool:
    """Makes one step of a batch norm and what follows it; tells whether anything does."""
    other, steps = _added(norm), [norm]
    if other is not None:
        steps += norm.users
    relu = _only_user(steps[-1])
    ceiling = None if relu is None else _ceiling(relu, steps[-1], layers)
    if relu is not None and ceiling is not None:
        steps.append(relu)
    if len(steps) == 1 or _changed_between(graph, steps, layers):
        return False
    with graph.inserting_before(steps[-1]):
        arguments = (norm.args[0], other, math.nan if ceiling is None else ceiling)
        one = graph.call_module(str(norm.target), arguments)
    steps[-1].replace_all_uses_with(one)
    for gone in reversed(steps):
        graph.erase_node(gone)
    return True


def _only_user(node: Node) -> Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _added(norm: Node) -> Node | None:
    """What the only user of a batch norm adds to it; None if it does something else."""
    add = _only_user(norm)
    if add is None or add.kwargs or len(add.args) != 2 or not add.op.startswith("call_"):
        return None
    first, second = add.args
    if add.target in _ADD_IN_PLACE and first is not norm:  # changes a tensor that others may read again
        return None
    if add.target not in _ADD | _ADD_IN_PLACE or first is second:
        return None
    other = second if first is norm else first
    return other if isinstance(other, Node) else None


def _ceiling(node: Node, x: Node, layers: dict[str, nn.Module]) -> float | None:
    """Where `node` ends if it is a ReLU of `x` alone, otherwise None."""
    if not node.op.startswith("call_") or [a for a in node.args if isinstance(a, Node)] != [x]:
        return None
    return _CEILING.get(type(layers[str(node.target)]) if node.op == "call_module" else node.target)


def _changed_between(graph: Graph, steps: list[Node], layers: dict[str, nn.Module]) -> bool:
    """Whether anything between the first and the last step works in place: the one step would read what it changed."""
    nodes = list(graph.nodes)
    between = nodes[nodes.index(steps[0]) : nodes.index(steps[-1])]
    return any(node not in steps and _in_place(node, layers) for node in between)


def _in_place(node: Node, layers: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return bool(getattr(layers[str(node.target)], "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    known = name.endswith("_") or (getattr(operator, name, None) is node.target and name.startswith("i"))
    return node.op.startswith("call_") and (known or bool(node.kwargs.get("inplace")))
