"""`convkit check` as a CI job uses it: many models, all targets, settings in a file, limits, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from convkit.cli.main import main


def _run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, args)])


def _save(path: Path, nodes: list[onnx.NodeProto], shape: list[int], constants: dict[str, list[int]]) -> Path:
    import numpy as np

    stored = [numpy_helper.from_array(np.int64(value), name) for name, value in constants.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def good(path: Path) -> Path:
    """A network that every target takes."""
    return _save(path, [helper.make_node("Relu", ["x"], ["y"])], [1, 4], {})


def bad(path: Path) -> Path:
    """A network with an operator that the GPU delegate has not, between two that it has."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("ReverseSequence", ["r", "lengths"], ["b"], "back", batch_axis=0, time_axis=1),
        helper.make_node("Tanh", ["b"], ["y"]),
    ]
    return _save(path, nodes, [2, 5], {"lengths": [5, 2]})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models").mkdir()
    good(tmp_path / "models/good.onnx")
    bad(tmp_path / "models/bad.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_settings_of_a_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "pyproject.toml").write_text(
        '[tool.convkit]\nmodels = ["models/*.onnx"]\ntargets = ["mali-gpu", "tflite-cpu"]\n'
        'fail-on = "never"\nmax-cpu-macs = "5%"\nmax-partitions = 1\njobs = 1\n'
    )
    (project / "deeper").mkdir()
    monkeypatch.chdir(project / "deeper")
    result = _run("--json")
    assert result.exit_code == 1, result.output
    body = json.loads(result.stdout)
    assert [Path(r["model"]["path"]).name for r in body["reports"]] == ["bad.onnx"] * 2 + ["good.onnx"] * 2
    assert {(b["limit"], b["target"]) for b in body["breaches"]} >= {("max-partitions", "mali-gpu")}
    assert _run("--max-partitions", "9").exit_code == 0


def test_settings_of_one_model(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "height", "width"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, "height", "width"])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, ir_version=10), project / "models" / "open.onnx")
    settings = 'models = ["models/good.onnx", "models/open.onnx"]\ntargets = ["mali-gpu"]\n'
    (project / "convkit.toml").write_text(settings)
    monkeypatch.chdir(project)
    assert _run().exit_code == 2
    single = '[model."models/o*.onnx"]\ninput = ["x:1x3x8x16"]\n'
    (project / "convkit.toml").write_text(settings + single)
    for jobs in ("1", "2"):
        result = _run("--json", "-j", jobs)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["reports"][1]["inputs"][0]["shape"] == [1, 3, 8, 16]


def test_node_data_for_model_explorer(project: Path) -> None:
    result = _run("models/good.onnx", "-t", "mali-gpu", "--model-explorer", "nodes.json", "-q")
    assert result.exit_code == 0
    body = json.loads((project / "nodes.json").read_text())
    assert body["name"] == "convkit: mali-gpu"
    assert {entry["value"] for entry in body["results"].values()} == {"accelerated"}
    assert all(entry["bgColor"].startswith("#") for entry in body["results"].values())
    both = _run("models/good.onnx", "-t", "mali-gpu", "-t", "tflite-cpu", "--model-explorer", "nodes.json")
    assert both.exit_code == 2
    assert "one-report" in both.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[model."models/good.onnx"]\nfail-on = "never"\n', "there is no setting 'fail-on'"),
        ('[model."models/good.onnx"]\ninput = ["x:ax3"]\n', "ax3"),
        ('model = "models/good.onnx"\n', "model holds tables"),
        ("fail-one = 'slow'\n", "did you mean fail-on"),
        ("models = ['none/*.onnx']\n", "no file matches"),
        ("models = [\n", "bad-config"),
    ],
)
def test_mistakes_in_settings(project: Path, text: str, said: str) -> None:
    (project / "convkit.toml").write_text(text)
    result = _run("models/good.onnx", "-t", "mali-gpu")
    assert result.exit_code == 2
    assert said in result.output


def test_models_in_processes_give_what_one_process_gives(project: Path) -> None:
    def told(jobs: str) -> object:
        body = json.loads(
            _run("models/good.onnx", "models/bad.onnx", "-t", "all", "-j", jobs, "--json").stdout
        )
        for report in body["reports"]:
            report.pop("timings")
        return body

    assert told("2") == told("1")


def test_a_model_that_cannot_be_read_does_not_hide_the_others(project: Path) -> None:
    (project / "broken.onnx").write_bytes(b"no model")
    result = _run("broken.onnx", "models/good.onnx", "-t", "mali-gpu", "-j", "1")
    assert result.exit_code == 2
    assert "✔ whole" in result.output
    assert "! error" in result.output


def test_what_would_be_won(project: Path) -> None:
    result = _run("models/bad.onnx", "-t", "mali-gpu", "--json")
    (report,) = json.loads(result.stdout)["reports"]
    assert report["transfers"] == {"partitions": 2, "tensors": 1, "bytes": 40}
    (lever,) = report["levers"]
    assert lever["op"] == "REVERSE_SEQUENCE"
    assert lever["transfers"] == {"partitions": 1, "tensors": 0, "bytes": 0}


def test_a_baseline_keeps_what_was_accepted(project: Path) -> None:
    first = _run("models/bad.onnx", "-t", "mali-gpu", "--json")
    assert first.exit_code == 1
    (project / "before.json").write_text(first.stdout)
    args = ("models/bad.onnx", "-t", "mali-gpu", "--baseline", "before.json")
    assert _run(*args, "--max-partitions", "1").exit_code == 0
    assert _run("models/bad.onnx", "-t", "mali-gpu", "--baseline", "none.json").exit_code == 2


def test_files_for_ci(project: Path) -> None:
    files = [f"--{kind}={kind}.out" for kind in ("sarif", "junit", "markdown")]
    result = _run("models/bad.onnx", "-t", "all", "-q", *files)
    assert result.output == ""
    assert (project / "sarif.out").read_text().startswith("{")
    assert "<testsuites" in (project / "junit.out").read_text()
    assert "convkit check: failed" in (project / "markdown.out").read_text()


@pytest.mark.parametrize("args", [(), ("models/good.onnx",), ("-t", "mali-gpu")])
def test_model_and_target_are_needed(project: Path, args: tuple[str, ...]) -> None:
    result = _run(*args)
    assert result.exit_code == 2
    assert "is missing" in result.output


@pytest.mark.parametrize("share", ["5", "-1%", "x", "120%"])
def test_a_share_that_is_none(project: Path, share: str) -> None:
    assert _run("models/good.onnx", "-t", "mali-gpu", "--max-cpu-macs", share).exit_code == 2


def test_a_compile_writes_the_page_too(project: Path) -> None:
    result = CliRunner().invoke(
        main, ["compile", "models/good.onnx", "-t", "mali-gpu", "-o", "out", "--html", "page.html", "-q"]
    )
    assert result.exit_code == 0, result.output
    assert "Max error" in (project / "page.html").read_text()


def test_what_if(project: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Tanh", ["r"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "any.onnx")
    args = ("any.onnx", "-t", "mali-gpu", "--input", "x:1x4")
    body = json.loads(_run(*args, "--what-if", "shape=x:3x4", "--what-if", "precision=fp16", "--json").stdout)
    assert [answer["question"] for answer in body["what_if"]] == ["shape=x:3x4", "precision=fp16"]
    assert body["what_if"][1]["changes"] == []
    told = _run(*args, "--what-if", "precision=fp16")
    assert told.exit_code == 0
    assert "nothing changes" in told.output
    for mistake in ("opset=9", "allow=all", "shape=x"):
        assert _run(*args, "--what-if", mistake).exit_code == 2


def test_what_if_tells_what_changes(project: Path) -> None:
    """A transposed convolution that a target has not: its replacement is another function."""
    import numpy as np

    weights = numpy_helper.from_array(np.ones((4, 4, 4, 4), np.float32), "w")
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 16, 16]),
    ]
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "net", ends[:1], ends[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "up.onnx")
    result = _run("up.onnx", "-t", "all", "--fail-on", "never", "--what-if", "allow=retrain", "--json")
    (answer,) = json.loads(result.stdout)["what_if"]
    for change in answer["changes"]:
        assert change["before"] != change["after"]
