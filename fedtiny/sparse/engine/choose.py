"""Which layers run on the engine: measured on this machine, once, and kept."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Literal

import torch
from torch import Tensor, nn

from fedtiny.cache import cache_folder
from fedtiny.sparse.engine.functions import convolve
from fedtiny.sparse.engine.kernels import EngineUnavailable, build_key, kernels
from fedtiny.sparse.engine.layers import shape_of, twin_of
from fedtiny.sparse.engine.layout import planes
from fedtiny.sparse.engine.measure import Cost, Stepper, measure, random_mask
from fedtiny.sparse.engine.taps import Shape, Taps
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network
from fedtiny.value import Value

__all__ = ["Choice", "Engine", "choose", "crossovers"]


class Engine(Value):
    """How a CPU computes with a masked network."""

    name: Literal["auto", "sparse", "dense"] = "auto"
    """sparse: work proportional to the kept weights; dense: PyTorch's kernels on masked weights; auto: the faster."""
    dense_above: Mapping[str, float] = {}
    """Weight -> the density above which its layer stays dense; auto measures them, and a run writes them down."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for a run, and why.

    Attributes:
        engine: `sparse` or `dense`, never `auto`.
        reason: One line.
        cost: What a training step costs with a random mask of the target density; None if it was not measured.
        layers: The weights whose layers run sparse at the target density, from input to output.
    """

    engine: Engine
    reason: str
    cost: Cost | None = None
    layers: tuple[str, ...] = ()


class _Kept(Value):
    """What is written to the cache."""

    dense_above: Mapping[str, float]
    cost: Cost


def choose(
    engine: Engine, network: Network, batch: int, density: float, tell: Callable[[str], None] = lambda text: None
) -> Choice:
    """Turns `auto` into what is faster on this machine, with one thread.

    Args:
        engine: What the user asked for.
        network: The network, not changed.
        batch: Examples a training step.
        density: Kept / prunable weights that the method aims at; at 1 nothing is pruned.
        tell: Is told of a measurement that begins.

    Raises:
        EngineUnavailable: The user asked for `sparse`, and it cannot be had.
    """
    if engine.name == "dense":
        return Choice(engine, "dense, as asked")
    if density >= 1 or not network.prunable:
        return Choice(Engine(name="dense"), "dense: nothing is pruned")
    try:
        kernels(torch.float32)
        key = build_key()
    except EngineUnavailable as error:
        if engine.name == "sparse":
            raise
        return Choice(Engine(name="dense"), f"dense: {error}")
    told = (key, engine.model_dump(), network.layers, network.input_shape, batch, density, torch.__version__)
    path = cache_folder() / "engine" / f"choice-{hashlib.sha256(repr(told).encode()).hexdigest()[:16]}.json"
    if path.exists():
        kept = _Kept.model_validate_json(path.read_text(encoding="utf-8"))
    else:
        tell("measuring which layers are faster sparse, once for this machine and network ...")
        kept = _measured(engine, network, batch, density)
        scratch = path.with_suffix(f".{time.time_ns()}")
        scratch.write_text(kept.model_dump_json(indent=2), encoding="utf-8")
        scratch.replace(path)
    cost, chosen = kept.cost, Engine(name="sparse", dense_above=kept.dense_above)
    times = f"{_ms(cost.sparse_seconds)} a step instead of {_ms(cost.dense_seconds)}"
    if engine.name == "auto" and cost.speedup <= 1:
        return Choice(Engine(name="dense"), f"dense: the sparse engine would take {times}", cost)
    densities = {layer.name: density if layer.prunable else 1.0 for layer in network.layers}
    layers = tuple(name for name, d in densities.items() if d <= kept.dense_above.get(name, 1.0))
    reason = f"sparse in {len(layers)} of {len(densities)} layers: {times}, {cost.speedup:.1f} times faster"
    return Choice(chosen, reason, cost, layers)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def _measured(engine: Engine, network: Network, batch: int, density: float) -> _Kept:
    above, mask = engine.dense_above, random_mask(network.prunable, density)

    def make(mask: Mask | None, n: int) -> Stepper:
        return Stepper(network.module, network.input_shape, n, mask, above)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if engine.name == "auto":
            above = crossovers(network.module, network.input_shape, batch)
        cost = measure(partial(make, None), partial(make, mask), batch, Stepper.train, 0.3)
    finally:
        torch.set_num_threads(threads)
    return _Kept(dense_above=above, cost=cost)


def crossovers(module: nn.Module, shape: tuple[int, int, int], batch: int) -> dict[str, float]:
    """For each weight that the engine has kernels for, the density above which its layer is faster dense.

    A sparse layer's time is a line over its density; two points and the dense layer's time give the crossover. Dense
    layers are timed among sparse ones: with the change of layout before and after.
    """
    known: dict[tuple[object, ...], float] = {}
    found = {}
    for name, (layer, x) in _inputs(module, shape, batch).items():
        what = shape_of(layer)
        assert what is not None
        key = (what, x.shape, x.requires_grad, type(layer))
        if key not in known:
            known[key] = _crossover(layer, what, x)
        found[name] = known[key]
    return found


def _inputs(module: nn.Module, shape: tuple[int, int, int], batch: int) -> dict[str, tuple[nn.Module, Tensor]]:
    """Weight -> its layer, and an input of the shape that it sees; the first layer's needs no gradient."""
    seen: dict[str, tuple[nn.Module, Tensor]] = {}

    def look(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].new_ones(inputs[0].shape).expand(batch, *inputs[0].shape[1:])
        x = planes(x if x.dim() == 4 else x[:, :, None, None])
        seen[f"{name}.weight"] = layer, x.requires_grad_(bool(seen))

    fitting = [(n, x) for n, x in module.named_modules() if shape_of(x) is not None and twin_of(x) is not None]
    handles = [layer.register_forward_pre_hook(partial(look, name)) for name, layer in fitting]
    training = module.training
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, *shape))
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    return seen


def _crossover(layer: nn.Module, shape: Shape, x: Tensor) -> float:
    weight = layer.weight
    assert isinstance(weight, Tensor)

    def dense() -> None:
        y = layer(x if isinstance(layer, nn.Conv2d) else x.flatten(1))
        _back(planes(y if y.dim() == 4 else y[:, :, None, None]), x, weight)

    def sparse(taps: Taps, values: Tensor) -> None:
        _back(convolve(x, values, None, taps), x, values)

    full = _seconds(dense)
    points = []
    for density in (0.02, 0.2):
        taps = Taps.of(shape, random_mask({"": tuple(weight.shape)}, density).keep[""])
        values = weight.detach().flatten()[taps.index].requires_grad_()
        points.append((len(taps.index) / weight.numel(), _seconds(partial(sparse, taps, values))))
    (d0, t0), (d1, t1) = points
    slope = (t1 - t0) / (d1 - d0) if d1 > d0 else 0.0
    if slope <= 0:
        return 1.0 if max(t0, t1) < full else 0.0
    return round(min(1.0, max(0.0, d0 + (full - t0) / slope)), 3)


def _back(y: Tensor, *leaves: Tensor) -> None:
    torch.autograd.grad(y, [leaf for leaf in leaves if leaf.requires_grad], torch.ones_like(y))


def _seconds(call: Callable[[], object]) -> float:
    """Median seconds of three calls or more, after a warm-up."""
    call()
    told: list[float] = []
    end = time.perf_counter() + 0.02
    while len(told) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        told.append(time.perf_counter() - start)
    return median(told)
