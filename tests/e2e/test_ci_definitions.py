"""The GitHub Action and the pre-commit hook: the commands that they run, run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.e2e.test_check import bad, good

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with two models, and `convkit` on the PATH."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "convkit"
    command.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "from convkit.cli.main import main; main()" "$@"\n'
    )
    command.chmod(0o755)
    good(tmp_path / "good.onnx")
    bad(tmp_path / "bad.onnx")
    return tmp_path


def _environment(place: Path, **others: str) -> dict[str, str]:
    paths = {"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return {**os.environ, **paths, **others}


@pytest.mark.parametrize(("models", "code"), [("good.onnx", 0), ("*.onnx", 1), ("none*.onnx", 2)])
def test_the_action_checks_and_writes_its_files(place: Path, models: str, code: int) -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    (check,) = [step for step in action["runs"]["steps"] if step["name"] == "Check the models"]
    inputs = {"models": models, "targets": "mali-gpu tflite-cpu", "args": "--max-cpu-macs 5%"}
    named = {key: re.fullmatch(r"\$\{\{ inputs\.(\w+) \}\}", value) for key, value in check["env"].items()}
    given = {key: inputs[found[1]] for key, found in named.items() if found is not None}
    assert set(inputs) <= set(action["inputs"])
    summary = place / "summary.md"
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", check["run"]],
        cwd=place,
        env=_environment(place, GITHUB_STEP_SUMMARY=str(summary), **given),
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    if code != 2:
        assert (place / "convkit.sarif").is_file()
        assert "convkit check" in summary.read_text()


@pytest.mark.parametrize(("files", "code"), [(["good.onnx"], 0), (["good.onnx", "bad.onnx"], 1)])
def test_the_hook_checks_the_files_it_is_given(place: Path, files: list[str], code: int) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert all(re.search(hook["files"], name) for name in files)
    command = [*shlex.split(hook["entry"]), "--target", "mali-gpu", *files]
    done = subprocess.run(command, cwd=place, env=_environment(place), capture_output=True, text=True)
    assert done.returncode == code, done.stderr
