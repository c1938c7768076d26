"""Which layers run on the engine: measured on this machine, once, and kept."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from fedtiny.cache import cache_folder
from fedtiny.sparse.engine.kernels import EngineUnavailable, build_key, kernels, locked
from fedtiny.sparse.engine.layers import twin_of
from fedtiny.sparse.engine.measure import Cost, Stepper, measure, random_mask
from fedtiny.sparse.engine.timing import seconds_of, sites
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network
from fedtiny.value import Value

__all__ = ["CPU_ONLY", "Choice", "Engine", "choose", "crossovers", "unable"]


CPU_ONLY = "the sparse engine computes on CPUs, and fleet.gpus is above 0"

_LOW, _HIGH = 0.02, 0.2


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
    engine: Engine,
    network: Network,
    batch: int,
    density: float,
    tell: Callable[[str], None] = lambda text: None,
    gpus: float = 0.0,
) -> Choice:
    """Turns `auto` into what is faster on this machine, with one thread.

    Args:
        engine: What the user asked for.
        network: The network, not changed.
        batch: Examples a training step.
        density: Kept / prunable weights that the method aims at; at 1 nothing is pruned.
        tell: Is told of a measurement that begins.
        gpus: GPUs that each place computes with.

    Raises:
        EngineUnavailable: The user asked for `sparse`, and it cannot be had.
    """
    if gpus and engine.name == "sparse":
        raise EngineUnavailable(CPU_ONLY)
    if engine.name == "dense":
        return Choice(engine, "dense, as asked")
    if gpus:
        return Choice(Engine(name="dense"), "dense: clients train on GPUs")
    if density >= 1 or not network.prunable:
        return Choice(Engine(name="dense"), "dense: nothing is pruned")
    try:
        if lacking := unable(network):
            raise EngineUnavailable(lacking)
        kernels(torch.float32)
        key = build_key()
    except EngineUnavailable as error:
        if engine.name == "sparse":
            raise
        return Choice(Engine(name="dense"), f"dense: {error}")
    kept = _remembered(engine, network, batch, density, key, tell)
    cost, chosen = kept.cost, Engine(name="sparse", dense_above=kept.dense_above)
    times = f"{_ms(cost.sparse_seconds)} a step instead of {_ms(cost.dense_seconds)}"
    if engine.name == "auto" and cost.speedup <= 1:
        return Choice(Engine(name="dense"), f"dense: the sparse engine would take {times}", cost)
    densities = {layer.name: density if layer.prunable else 1.0 for layer in network.layers}
    able = [site.name for site in sites(network.module, network.input_shape, 1)]
    layers = tuple(name for name in able if densities[name] <= kept.dense_above.get(name, 1.0))
    reason = f"sparse in {len(layers)} of {len(densities)} layers: {times}, {cost.speedup:.1f} times faster"
    return Choice(chosen, reason, cost, layers)


def unable(network: Network) -> str:
    """Why the engine can do nothing for a network: it has kernels for none of its prunable layers; empty if it can."""
    layers = [network.module.get_submodule(name.removesuffix(".weight")) for name in network.prunable]
    if not layers or any(twin_of(layer) for layer in layers):
        return ""
    kinds = ", ".join(sorted({type(layer).__name__ for layer in layers}))
    return f"the sparse engine has no kernels for what can be pruned here ({kinds})"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def _remembered(
    engine: Engine, network: Network, batch: int, density: float, key: str, tell: Callable[[str], None]
) -> _Kept:
    """What was measured before in the same circumstances, or is measured now; one process at a time."""
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))

    def place(engine: Engine) -> Path:
        told = (key, engine.model_dump(), network.layers, network.input_shape, batch, density, torch.__version__)
        name = hashlib.sha256(sources + repr(told).encode()).hexdigest()[:16]
        return cache_folder() / "engine" / f"choice-{name}.json"

    path = place(engine)
    with ExitStack() as stack:
        with suppress(OSError):  # A cache that cannot be written still serves to read.
            stack.enter_context(locked(path.parent))
        with suppress(OSError, ValueError):  # not there, or torn: it is made anew
            return _Kept.model_validate_json(path.read_text(encoding="utf-8"))
        tell("measuring which layers are faster sparse, once for this machine and network ...")
        kept = _measured(engine, network, batch, density)
        # A run's own configuration names what was chosen, and is to find it too.
        for target in (path, place(Engine(name="sparse", dense_above=kept.dense_above))):
            with suppress(OSError):
                scratch = target.with_suffix(".new")
                scratch.write_text(kept.model_dump_json(indent=2), encoding="utf-8")
                scratch.replace(target)
    return kept


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

    A sparse layer's time is a line over its density; two points and the dense layer's time give the crossover. Layers
    that together take less than a twentieth of the dense time stay sparse: what they cost does not matter, and one
    choice less hangs on noise.
    """
    known: dict[tuple[object, ...], tuple[float, ...]] = {}
    found = {}
    for site in sites(module, shape, batch):
        if site.key not in known:
            calls = (site.dense(True), site.sparse(_LOW), site.sparse(_HIGH))
            known[site.key] = tuple(seconds_of(call) for call in calls)
        found[site.name] = known[site.key]
    left = sum(dense for dense, *_ in found.values()) / 20
    above = {}
    for name, times in sorted(found.items(), key=lambda item: item[1][0]):
        left -= times[0]
        above[name] = 1.0 if left > 0 else _crossover(*times)
    return {name: above[name] for name in found}


def _crossover(dense: float, low: float, high: float) -> float:
    """Where the line through (_LOW, low) and (_HIGH, high) meets `dense`, in [0, 1]."""
    if high <= low:  # too small a layer for its density to show
        return 1.0 if high < dense else 0.0
    return round(min(1.0, max(0.0, _LOW + (dense - low) / (high - low) * (_HIGH - _LOW))), 3)
