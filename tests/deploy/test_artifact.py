"""Files that are sound, but no exported networks, are refused in a line."""

from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from fedtiny.__main__ import main


def write_onnx(path: Path, reads: str, says: str, shape: list[int | str]) -> None:
    """A ReLU."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (reads, says)]
    graph = helper.make_graph([helper.make_node("Relu", [reads], [says])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


class Sums(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.sum((2, 3))


@pytest.mark.parametrize(
    ("reads", "says", "shape"),
    [
        ("x", "logits", ["n", 1, 8, 8]),
        ("image", "y", ["n", 1, 8, 8]),
        ("image", "logits", ["n", 1, 8, 8]),
        ("image", "logits", ["n", "c", "h", "w"]),
        ("image", "logits", ["n", 7]),
    ],
)
def test_another_onnx_model(
    tmp_path: Path, reads: str, says: str, shape: list[int | str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_onnx(tmp_path / "m.onnx", reads, says, shape)
    assert main(["predict", str(tmp_path / "m.onnx"), "x.png"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "m.onnx: it must take `image`, (N, C, H, W), and give `logits`" in line


def test_a_program_of_torch_export_for_one_size_of_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.export.save(torch.export.export(Sums(), (torch.zeros(3, 1, 8, 8),)), tmp_path / "m.pt2")
    assert main(["predict", str(tmp_path / "m.pt2"), "x.png"]) == 2
    assert "for any N" in capsys.readouterr().err.splitlines()[-1]


def test_a_c_program_of_a_name_that_c_does_not_allow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for suffix in (".c", ".h"):
        (tmp_path / f"a(b{suffix}").write_text("")
    assert main(["predict", str(tmp_path / "a(b.c"), "x.png"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "its header a(b.h must" in line
