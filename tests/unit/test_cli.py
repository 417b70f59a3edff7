"""The command line's own parts: start-up, parsing, atomic output, how errors end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from convkit.cli.console import exits
from convkit.cli.main import main
from convkit.cli.options import common, parse_shape
from convkit.diagnostics import ConvkitError, ExitCode, Location, error
from convkit.files import output_folder, write_all


def test_help_lists_commands_and_exit_codes() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for word in ("compile", "check", "inspect", "targets", "rules", "Exit codes"):
        assert word in result.output


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['convkit', '--help']\n"
        "from convkit.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('numpy', 'onnx', 'onnx_ir', 'rich', 'lark', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_unknown_command_is_exit_code_2() -> None:
    result = CliRunner().invoke(main, ["compil", "x"])
    assert result.exit_code == 2
    assert "Did you mean compile?" in result.output


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x:1x3x224x224", ("x", (1, 3, 224, 224), "")),
        ("x:1,3,8", ("x", (1, 3, 8), "")),
        ("serving_default_input:0:[1, 8]", ("serving_default_input:0", (1, 8), "")),
        ("sr:", ("sr", (), "")),
        ("ids:1x16:int64", ("ids", (1, 16), "int64")),
    ],
)
def test_input_shape(text: str, value: tuple[str, tuple[int, ...], str]) -> None:
    assert parse_shape(text) == value


@pytest.mark.parametrize("text", ["x", ":1x2", "x:1x-2", "x:1xN", "x:0"])
def test_bad_input_shape(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not NAME:SHAPE"):
        parse_shape(text)


def test_files_replace_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    write_all(tmp_path, {"a": b"new", "b": memoryview(b"other")})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"new", "b": b"other"}
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~mask


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "b").mkdir()  # a folder stands where a file shall go
    (tmp_path / "b" / "c").touch()
    with pytest.raises(ConvkitError, match="output-not-writable"):
        write_all(tmp_path, {"b": b"new", "a": b"new"})
    assert (tmp_path / "a").read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_output_folder_is_taken_back_on_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    with pytest.raises(RuntimeError), output_folder(folder):
        assert folder.is_dir()
        raise RuntimeError
    assert not (tmp_path / "deep").exists()


def test_existing_output_folder_stays(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), output_folder(tmp_path):
        raise RuntimeError
    assert tmp_path.is_dir()


def test_output_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConvkitError, match="output-not-writable"), output_folder(tmp_path / "file" / "out"):
        pytest.fail("the body must not run")


def _command(problem: Exception) -> click.Command:
    @click.command()
    @common
    @exits
    def command(as_json: bool, quiet: bool, verbose: int, debug: bool) -> ExitCode:
        raise problem

    return command


_BAD = error(
    "bad-thing", "it is bad", location=Location("m.onnx", node="n1"), help="do better", notes=("why",)
)


def test_error_is_a_diagnostic() -> None:
    result = CliRunner().invoke(_command(_BAD))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "error[bad-thing]: m.onnx: node n1: it is bad",
        "  note: why",
        "  help: do better",
    ]


def test_error_as_json() -> None:
    result = CliRunner().invoke(_command(_BAD), ["--json"])
    assert result.exit_code == 2
    (found,) = json.loads(result.stderr)["diagnostics"]
    assert found["code"] == "bad-thing"
    assert found["location"] == {"file": "m.onnx", "line": None, "column": None, "node": "n1"}


def test_defect_is_a_diagnostic_without_traceback() -> None:
    result = CliRunner().invoke(_command(ValueError("oops\nmore")))
    assert result.exit_code == ExitCode.TOOLCHAIN
    assert result.stderr.startswith("error[internal-error]: ValueError: oops more")
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback() -> None:
    result = CliRunner().invoke(_command(ValueError("oops")), ["--debug"])
    assert isinstance(result.exception, ValueError)
