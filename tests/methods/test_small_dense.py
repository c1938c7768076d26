"""Small dense: the widest network within the pruned one's parameters, told as what it is."""

import pytest

from fedtiny.config.load import ConfigError, load
from fedtiny.methods import SmallDense
from fedtiny.models.zoo import AnyModel, MobileNetV2, ResNet8, ResNet18, SmallCnn, Vgg11
from fedtiny.prepare import prepare
from fedtiny.sparse.network import Network, Prunable
from fedtiny.track.results import result_table
from tests.conftest import SMOKE, Runner


def build(model: AnyModel) -> Network:
    return Network.of(model.build(3, 10, 0), (3, 16, 16), Prunable())


@pytest.mark.parametrize(
    "model", [SmallCnn(width=40), ResNet8(width=12), ResNet18(width=8), Vgg11(width=8), MobileNetV2(width=8)]
)
@pytest.mark.parametrize("density", [0.05, 0.3, 1.0])
def test_the_width_is_the_largest_that_fits(model: AnyModel, density: float) -> None:
    whole = build(model)
    prunable = sum(layer.size for layer in whole.layers if layer.prunable)
    most = whole.parameters - prunable + int(density * prunable + 1e-9)
    found = SmallDense(density=density).network(model, build)
    assert type(found) is type(model)
    assert build(found).parameters <= most
    wider = found.model_copy(update={"width": found.width + 1})
    assert build(wider).parameters > most
    assert (found == model) == (density == 1.0)


def test_the_papers_network_by_its_numbers() -> None:
    # ResNet-18 on 32x32 pixels of 3 channels, 10 classes: 11,173,962 parameters of which 11,157,504 are prunable. At
    # 1 % 111,575 of them stay beside 16,458 others: 128,033. Width 6 has 99,616 and width 7 has 135,285.
    def cifar(model: AnyModel) -> Network:
        return Network.of(model.build(3, 10, 0), (3, 32, 32), Prunable())

    found = SmallDense(density=0.01).network(ResNet18(), cifar)
    assert found.width == 6
    assert cifar(found).parameters <= 128_033 < cifar(ResNet18(width=7)).parameters


def test_too_low_a_density_is_refused_with_the_least_one() -> None:
    whole, least = build(ResNet8(width=2)), build(ResNet8(width=1)).parameters
    with pytest.raises(
        ValueError, match=rf"width 1, which has {least} parameters: .* of {whole.parameters:,}; the least"
    ) as caught:
        SmallDense(density=0.01).network(ResNet8(width=2), build)
    density = float(str(caught.value).split()[-1])
    assert SmallDense(density=density).network(ResNet8(width=2), build).width == 1
    with pytest.raises(ConfigError) as told:
        prepare(load([SMOKE], ["method={name: small_dense, density: 0.001}", "model.width=2"]))
    assert any("method: density must leave room for a network of width 1" in line for line in told.value.problems)


def test_records_and_summary_tell_what_was_trained_and_what_dense_would_have_been(make_run: Runner) -> None:
    dense = make_run("method={name: dense}", "rounds=2", "model.width=8", folder="dense")
    small = make_run("method={name: small_dense, density: 0.1}", "rounds=2", "model.width=8")
    summary, of = small.summary, dense.summary
    assert of["model"] == {"name": "resnet8", "normalisation": "batch", "width": 8}
    assert summary["model"] == {"name": "resnet8", "normalisation": "batch", "width": 2}
    numbers = sum(x.numel() for x in small.state.weights.values())
    assert summary["upload_bytes"] == 2 * 3 * (12 + 4 * numbers)
    assert (summary["density"], summary["density_target"]) == (1.0, 1.0)
    for key in ("reference_parameters", "dense_upload_bytes", "dense_flops_per_round_max"):
        assert summary[key] == of[key]
    assert of["parameters"] == of["reference_parameters"]
    assert small.records[0].dense_flops == dense.records[0].dense_flops
    for key in ("parameters", "prunable", "memory_bytes_max", "activation_bytes_max", "upload_bytes"):
        mine, whole = summary[key], of[key]
        assert isinstance(mine, int)
        assert isinstance(whole, int)
        assert mine < whole
    flops, least = small.records[0].flops["rigl"], dense.records[0].flops["rigl"]
    assert flops < 0.2 * least
    parameters, reference = summary["parameters"], summary["reference_parameters"]
    assert isinstance(parameters, int)
    assert isinstance(reference, int)
    assert summary["density_all"] == small.records[-1].density_all == parameters / reference
    rows = {row[0]: row[1:] for row in result_table({**summary, "seconds": 1.0}).rows}
    assert rows["density of all parameters"] == (f"{100 * parameters / reference:.3g} %", f"of {reference:,}")
