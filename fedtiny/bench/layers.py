"""Each kind of layer of a network, dense and sparse, with SparseProp beside them if it is installed."""

import importlib.util

import torch
from torch import nn

from fedtiny.bench.machine import machine, network_of
from fedtiny.bench.subject import Subject
from fedtiny.sparse.engine.measure import random_mask
from fedtiny.sparse.engine.taps import Shape
from fedtiny.sparse.engine.timing import Site, seconds_of, sites
from fedtiny.table import Table

__all__ = ["layers"]


def layers(subject: Subject) -> tuple[Table, dict[str, object]]:
    """Each kind of layer of the network, forward and backward, dense and sparse; SparseProp too if it is installed.

    Raises:
        EngineUnavailable: The kernels cannot be had.
    """
    torch.set_num_threads(subject.threads)
    network = network_of(subject)
    rival = importlib.util.find_spec("sparseprop") is not None
    kinds: dict[tuple[object, ...], Site] = {}
    for site in sites(network.module, network.input_shape, subject.batch):
        kinds.setdefault(site.key, site)
    rows = [_layer(site, subject, rival) for site in kinds.values()]
    columns = ("layer", "forward dense", "sparse", "ratio", "with backward dense", "sparse", "ratio", "GFLOP/s")
    table = Table(
        f"{subject.model}, density {subject.density:g}, batch {subject.batch}, milliseconds",
        (*columns, "SparseProp", "its ms / ours") if rival else columns,
        tuple(_layer_row(row, rival) for row in rows),
    )
    return table, {"subject": subject.model_dump(), "machine": machine(), "layers": rows}


def _layer(site: Site, subject: Subject, rival: bool) -> dict[str, object]:
    density, times = subject.density, subject.seconds / 100
    N, _, H, W = site.x.shape
    out, shape = site.shape.out((H, W)), site.shape
    weights = shape.outputs * shape.inputs // shape.groups * shape.kernel[0] * shape.kernel[1]
    flops = 2 * max(1, round(subject.density * weights)) * out[0] * out[1] * N
    with torch.no_grad():
        told = {
            "dense_forward": seconds_of(site.dense(False, False), times),
            "sparse_forward": seconds_of(site.sparse(density, False), times),
        }
    told |= {"dense": seconds_of(site.dense(False), times), "sparse": seconds_of(site.sparse(density), times)}
    theirs = _sparseprop(site, subject.density, times) if rival else None
    return {
        "layer": site.name.removesuffix(".weight"),
        "shape": _shown(shape, H, W),
        **told,
        "gflops": flops * (3 if site.x.requires_grad else 2) / told["sparse"] / 1e9,
        "sparseprop": theirs,
    }


def _shown(shape: Shape, H: int, W: int) -> str:
    stride = f", stride {shape.stride[0]}" if shape.stride[0] > 1 else ""
    groups = f", {shape.groups} groups" if shape.groups > 1 else ""
    return f"{shape.inputs}->{shape.outputs}, {shape.kernel[0]}x{shape.kernel[1]}{stride}{groups}, {H}x{W}"


def _layer_row(told: dict[str, object], rival: bool) -> tuple[str, ...]:
    def of(key: str) -> float:
        value = told[key]
        assert isinstance(value, float)
        return value

    row = [f"{told['layer']} ({told['shape']})"]
    for dense, sparse in (("dense_forward", "sparse_forward"), ("dense", "sparse")):
        row += [f"{1e3 * of(dense):.3g}", f"{1e3 * of(sparse):.3g}", f"{of(dense) / of(sparse):.1f}"]
    row.append(f"{of('gflops'):.0f}")
    if rival:
        known = told["sparseprop"] is not None
        row += [f"{1e3 * of('sparseprop'):.3g}", f"{of('sparseprop') / of('sparse'):.1f}"] if known else ["", ""]
    return tuple(row)


def _sparseprop(site: Site, density: float, times: float) -> float | None:
    """Seconds of SparseProp's better mode, forward and backward, on its own layout; None for what it does not do."""
    from sparseprop.modules import SparseConv2d

    layer, shape = site.layer, site.shape
    if not isinstance(layer, nn.Conv2d) or shape.groups > 1 or shape.kernel[0] != shape.kernel[1]:
        return None
    keep = random_mask({"": tuple(layer.weight.shape)}, density).keep[""]
    x = torch.ones(site.x.shape, requires_grad=site.x.requires_grad)
    best = None
    for over_outputs in (False, True):
        theirs = SparseConv2d(
            layer.weight.detach() * keep, None, shape.padding[0], shape.stride[0], vectorizing_over_on=over_outputs
        )

        def call(theirs: nn.Module = theirs) -> None:
            y = theirs(x)
            y.backward(torch.ones_like(y))

        took = seconds_of(call, times)
        best = took if best is None else min(best, took)
    return best
