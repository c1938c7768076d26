"""A run's network, written in a format."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from fedtiny.config.load import ConfigError
from fedtiny.deploy.finished import Finished
from fedtiny.deploy.formats import FORMATS, SUFFIXES, Format
from fedtiny.disk import replaced
from fedtiny.export.c import CProgram, write
from fedtiny.export.graph import Graph
from fedtiny.export.onnx import onnx_model
from fedtiny.export.pack import pack
from fedtiny.export.torch import write_torch
from fedtiny.export.values import Values

__all__ = ["Written", "asked", "written"]


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written.

    Attributes:
        format: Its format.
        values: What its weights are.
        path: The file; of C, the source, with its header beside it.
        program: The C program; None for other formats.
    """

    format: Format
    values: Values
    path: Path
    program: CProgram | None = None


def asked(formats: Sequence[Format], values: Sequence[Values]) -> list[tuple[Format, Values]]:
    """What to write: each format with each of the values that it can hold.

    Raises:
        ConfigError: A format can hold none of them.
    """
    if wrong := [name for name in formats if not set(FORMATS[name]) & set(values)]:
        raise ConfigError(
            f"--values: {name} holds {' or '.join(FORMATS[name])}, got {' '.join(values)}; add one, or leave {name} out"
            for name in wrong
        )
    return [(name, kind) for name in dict.fromkeys(formats) for kind in FORMATS[name] if kind in values]


def written(run: Finished, graph: Graph, folder: Path, name: Format, values: Values) -> Written:
    """Writes the network to `folder`, whole or not at all.

    Args:
        run: The run.
        graph: Its network.
        folder: Where to; it exists.
        name: The format.
        values: What its weights are to be.

    Raises:
        ValueError: The format cannot hold the network.
    """
    classes, end = run.examples.classes, "" if values == "float32" else f"-{values}"
    if name == "c":
        assert values != "float16"
        calibration = run.calibration() if values == "int8" else None
        program = write(graph, folder / "c", f"fedtiny{end.replace('-', '_')}", values, calibration)
        return Written(name, values, program.source, program)
    path = folder / f"model{end}{SUFFIXES[name]}"
    with replaced(path) as scratch:
        if name == "packed":
            scratch.write_bytes(pack(graph, classes, values))
        elif name == "onnx":
            onnx.save(onnx_model(graph, classes), scratch)
        else:
            data = run.config.data
            write_torch(run.module, scratch, run.examples.shape, data.mean, data.std, classes)
    return Written(name, values, path)
