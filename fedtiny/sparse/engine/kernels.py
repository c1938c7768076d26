"""Builds and loads kernels.cpp: once a machine, compiler and source, at first use."""

import ctypes
import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from fedtiny.cache import cache_folder

__all__ = ["EngineUnavailable", "Grid", "build_key", "compiles", "is_built", "kernels", "locked"]

_SOURCE = Path(__file__).with_name("kernels.cpp")
_REAL = {torch.float32: "float", torch.float64: "double"}


class EngineUnavailable(ValueError):
    """The kernels cannot be had on this machine; the message says why, and what to install."""


class Grid(ctypes.Structure):
    """`struct Grid` of kernels.cpp: where the pixels and the taps of one product lie."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("lanes", "channels", "height", "width", "in_row", "in_step")),
        *((name, ctypes.c_int64) for name in ("out_plane", "out_row", "out_step", "out_start", "A", "B", "runs")),
        *((name, ctypes.c_void_p) for name in ("first", "offset", "rows", "run", "wide")),
    ]


def _compiler() -> list[str]:
    named = shlex.split(os.environ.get("CXX", ""))
    for command in [named] if named else [["c++"], ["g++"], ["clang++"]]:
        if shutil.which(command[0]):
            return command
    looked = named[0] if named else "c++, g++ and clang++"
    raise EngineUnavailable(f"no C++ compiler (looked for {looked}); install one, for example: apt-get install g++")


# Not every compiler knows every one of these: Apple's has no OpenMP, others no `native` for their machine.
_WISHES = (("-march=native", "-fopenmp"), ("-march=native",), ())


def _flags(wishes: Sequence[str]) -> list[str]:
    extra = shlex.split(os.environ.get("FEDTINY_ENGINE_FLAGS", ""))  # comes last, and wins
    return ["-O3", *wishes, "-std=c++17", "-shared", "-fPIC", *extra]


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    told = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return f"{platform.machine()} {platform.processor()} {sorted(set(told))}"


@cache
def build_key() -> str:
    """What a build, and a choice measured with it, depends on: source, compiler, flags and CPU.

    Raises:
        EngineUnavailable: There is no compiler.
    """
    compiler = _compiler()
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=False).stdout
    digest = hashlib.sha256(_SOURCE.read_bytes() + version)
    digest.update(repr((compiler, [_flags(wishes) for wishes in _WISHES], _cpu())).encode())
    return digest.hexdigest()[:16]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes of this machine out; the system lets go of the lock, however the process ends."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _compile(real: str, made: Path) -> None:
    for wishes in _WISHES:
        command = [*_compiler(), *_flags(wishes), f"-DREAL={real}", str(_SOURCE), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not done.returncode:
            return
    first = next((x for x in done.stderr.splitlines() if "error" in x), done.stderr.strip())
    raise EngineUnavailable(f"the kernels do not compile ({first}); update or change $CXX")


def compiles() -> str:
    """Name of the compiler, which makes a library of a line that needs the standard headers: the kernels take longer.

    Raises:
        EngineUnavailable: There is no compiler, or it cannot.
    """
    compiler = _compiler()
    with tempfile.TemporaryDirectory() as scratch:
        command = [*compiler, *_flags(()), "-x", "c++", "-", "-o", f"{scratch}/one.so"]
        line = "#include <vector>\nstd::vector<int> one(1);\n"
        done = subprocess.run(command, input=line, capture_output=True, text=True, check=False)
    if done.returncode:
        first = next((x for x in done.stderr.splitlines() if "error" in x), done.stderr.strip())
        raise EngineUnavailable(f"{' '.join(compiler)} does not compile a line of C++ ({first}); mend it or set $CXX")
    return " ".join(compiler)


def is_built(dtype: torch.dtype) -> bool:
    """Whether `kernels` has only to load.

    Raises:
        EngineUnavailable: There is no compiler.
    """
    return _target(_REAL[dtype]).exists()


def _target(real: str) -> Path:
    return cache_folder() / "engine" / f"{build_key()}-{real}.so"


def _built(real: str) -> Path:
    target = _target(real)
    folder = target.parent
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                made = Path(scratch) / target.name
                _compile(real, made)
                made.replace(target)
    return target


@cache
def kernels(dtype: torch.dtype) -> ctypes.CDLL:
    """The compiled kernels for float32 or float64.

    Raises:
        EngineUnavailable: There is no compiler, or it failed.
    """
    try:
        library = ctypes.CDLL(str(_built(_REAL[dtype])))
    except OSError as error:
        raise EngineUnavailable(f"the kernels cannot be built or loaded ({error}); set FEDTINY_CACHE") from error
    p, i, n, d = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_double
    for name, arguments in {
        "product": [p, p, p, p, p, i],
        "tap_product": [p, p, p, p, i],
        "norm": [p, n, p, n, p, n, n, n, p, p, p, p, i, d, d, i],
        "norm_gradients": [p, n, p, n, p, n, p, n, p, n, n, n, p, p, p, p, p, p, i, d, d, i],
        "pool": [p, n, p, n, p, n, n, n, n, n, n, n],
        "pool_gradient": [p, n, p, p, n, n, n, n, n, n, n, n],
        "keep_memory": [],
    }.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, None
    library.keep_memory()
    return library
