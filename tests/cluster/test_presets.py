"""What the files and the page for clusters say, as far as one machine can tell."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from fedtiny.__main__ import main
from tests.test_cli import ROOT
from tests.test_documents import taken

CLUSTER = ROOT / "configs" / "cluster"
PAGE = ROOT / "docs" / "cluster.md"
FILES = [PAGE, *sorted(CLUSTER.iterdir())]
COMMAND = re.compile(r"python -m (?:fedtiny )?((?:run|doctor|show|compare|cost|resume|tune)\b ?[^\"`&#\n]*)")


def commands(path: Path) -> Iterator[list[str]]:
    """The words of every command of ours in a file, without what a shell fills in."""
    for found in COMMAND.findall(path.read_text(encoding="utf-8")):
        words = shlex.split(found)
        if "resume" not in words and not any("$@" in word for word in words):
            yield words


def tree(path: Path) -> dict[str, object]:
    read: dict[str, object] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return read


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_command_of_ours_is_one_that_the_program_takes(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb, *words in commands(path):
        given = [word for word in words if not word.startswith(("--", "out="))]
        presets = [word for word in given if "=" not in word]
        assert all((ROOT / preset).is_file() for preset in presets)
        if verb in ("doctor", "tune"):
            taken([ROOT / preset for preset in presets], [word for word in given if "=" in word], verb == "tune")
            continue
        assert main(["show", *(str(ROOT / word) if word in presets else word for word in given)]) == 0
        assert "address: auto" in capsys.readouterr().out or "fleet.address=auto" not in words


def test_the_page_has_commands_and_its_links_lead_somewhere() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(list(commands(PAGE))) >= 9
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (PAGE.parent / link).exists(), link
    for block in re.findall(r"```\n(.*?)```", text, re.DOTALL):
        if "└" not in block:
            subprocess.run(["bash", "-n"], input=block, text=True, check=True)


@pytest.mark.parametrize("name", ["aws", "on_premise"])
def test_ray_takes_its_clusters_files_and_would_refuse_a_misspelt_key(name: str) -> None:
    validate_config(prepare_config(tree(CLUSTER / f"{name}.yaml")))
    with pytest.raises(ValidationError, match="max_workrs"):
        validate_config(prepare_config({**tree(CLUSTER / f"{name}.yaml"), "max_workrs": 2}))


def test_all_that_names_a_version_of_ray_names_that_of_the_requirements() -> None:
    (pinned,) = re.findall(r"^ray\[tune\]==(.*)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    for path in FILES:
        named = re.findall(r"(?:ray\[default\]==|rayproject/ray:|rayVersion: \")(\d+\.\d+\.\d+)", path.read_text())
        assert set(named) <= {pinned}, path


def test_the_ray_job_has_the_form_that_kuberay_reads() -> None:
    """The fields that matter; KubeRay's schema is not at hand."""
    job = tree(CLUSTER / "kuberay.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    assert isinstance(spec, dict)
    assert set(spec) <= {
        *("entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec"),
    }
    cluster = spec["rayClusterSpec"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert {x["name"] for x in container["volumeMounts"]} == {x["name"] for x in pod["volumes"]}
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_shellcheck_has_nothing_to_say_about_the_slurm_script() -> None:
    done = subprocess.run(["shellcheck", str(CLUSTER / "slurm.sh")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
