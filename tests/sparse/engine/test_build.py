"""The kernels are built once a machine, for its CPU; where they cannot be, one line says why."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from fedtiny.sparse.engine.kernels import EngineUnavailable

LAW = Path(__file__).with_name("test_law.py")
USE = "import torch; from fedtiny.sparse.engine.kernels import kernels; kernels(torch.float32); print('ready')"


def python(code: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="these are instruction sets of x86-64")
@pytest.mark.parametrize("flags", ["-march=haswell", "-march=x86-64"])
def test_the_law_holds_for_every_width_of_vectors(flags: str) -> None:
    """AVX2 and SSE2; whatever this machine has was tested with the law itself."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(LAW)],
        env={**os.environ, "FEDTINY_ENGINE_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_processes_that_start_at_once_build_once(tmp_path: Path) -> None:
    """The compiler is a script that counts its calls before it hands on."""
    log, compiler = tmp_path / "calls", tmp_path / "counting-compiler"
    compiler.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec c++ "$@"\n')
    compiler.chmod(0o755)
    started = [python(USE, FEDTINY_CACHE=str(tmp_path / "new"), CXX=str(compiler)) for _ in range(4)]
    for process in started:
        out, error = process.communicate()
        assert out == "ready\n", error
    builds = [line for line in log.read_text().splitlines() if "-shared" in line]
    assert len(builds) == 1


def test_a_compiler_without_openmp_will_do(tmp_path: Path) -> None:
    """As Apple's: it stops at the option."""
    compiler = tmp_path / "no-openmp"
    compiler.write_text(
        '#!/bin/sh\ncase "$*" in *-fopenmp*) echo "error: no -fopenmp" >&2; exit 1;; esac\nexec c++ "$@"\n'
    )
    compiler.chmod(0o755)
    out, error = python(USE, FEDTINY_CACHE=str(tmp_path / "new"), CXX=str(compiler)).communicate()
    assert out == "ready\n", error


def test_a_build_belongs_to_its_source_flags_and_compiler(tmp_path: Path) -> None:
    for flags in ("", "-O2", "-O2"):
        out, error = python(USE, FEDTINY_CACHE=str(tmp_path / "new"), FEDTINY_ENGINE_FLAGS=flags).communicate()
        assert out == "ready\n", error
    assert len(list((tmp_path / "new" / "engine").glob("*-float.so"))) == 2


@pytest.mark.parametrize(
    ("compiler", "told"),
    [("no-such-compiler", "no C++ compiler (looked for no-such-compiler); install one, for example"), ("false", "")],
)
def test_without_a_compiler_one_line_says_what_to_install(tmp_path: Path, compiler: str, told: str) -> None:
    code = (
        "import torch\nfrom fedtiny.sparse.engine.kernels import EngineUnavailable, kernels\n"
        "try: kernels(torch.float32)\nexcept EngineUnavailable as error: print(error)"
    )
    out, error = python(code, FEDTINY_CACHE=str(tmp_path / "new"), CXX=compiler).communicate()
    assert out.startswith(told or "the kernels do not compile ("), error
    assert out.count("\n") == 1


def test_a_run_goes_on_dense_without_a_compiler(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fedtiny", "run", "configs/smoke.yaml", f"out={tmp_path / 'run'}"]
    environment = {**os.environ, "FEDTINY_CACHE": str(tmp_path / "new"), "CXX": "no-such-compiler"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if "compiler" in line]
    assert told == [
        "engine: dense: no C++ compiler (looked for no-such-compiler); install one, for example: apt-get install g++"
    ]


def test_insisting_on_sparse_without_a_compiler_is_an_error_before_the_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "fedtiny", "run", "configs/smoke.yaml", "engine=sparse", f"out={out}"]
    environment = {**os.environ, "FEDTINY_CACHE": str(tmp_path / "new"), "CXX": "no-such-compiler"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "config: engine: no C++ compiler (looked for no-such-compiler); install one, for example: "
        "apt-get install g++; or set engine=dense\n"
    )
    assert not out.exists()


def test_the_error_is_one_of_values() -> None:
    assert issubclass(EngineUnavailable, ValueError)
