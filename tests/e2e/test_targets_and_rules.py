"""`convkit targets`, `convkit explain` and `convkit rules`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from convkit.cli.main import main


def test_targets_are_listed() -> None:
    result = CliRunner().invoke(main, ["targets"])
    assert result.exit_code == 0
    assert any(line.split()[:1] == ["mali-gpu"] for line in result.output.splitlines())
    body = json.loads(CliRunner().invoke(main, ["targets", "--json"]).output)
    (mali,) = [target for target in body if target["name"] == "mali-gpu"]
    assert mali["lineage"] == ["mali-gpu", "litert-gpu"]
    assert mali["rules"] > 50


def test_a_rule_is_explained_with_its_source() -> None:
    result = CliRunner().invoke(main, ["explain", "lrt-rank-001"])
    assert result.exit_code == 0
    assert "max_rank > 4" in result.output
    assert "litert-gpu.rules:" in result.output
    rule = json.loads(CliRunner().invoke(main, ["explain", "LRT-RANK-001", "--json"]).output)
    assert rule["severity"] == "fallback"
    assert rule["sources"]


def test_a_rule_is_shown_on_an_operator_that_it_refuses_and_one_that_it_does_not() -> None:
    result = CliRunner().invoke(main, ["explain", "LRT-GATHER-001"])
    assert "speaks of" in result.output
    assert "and not of" in result.output
    assert "gather-to-slice" in result.output
    example = json.loads(CliRunner().invoke(main, ["explain", "LRT-GATHER-001", "--json"]).output)["example"]
    assert example["refused"].startswith("GATHER(")
    assert example["says"].startswith("indices have rank")
    assert example["accepted"].startswith("GATHER(")


def test_the_rules_of_a_target_are_listed() -> None:
    shown = json.loads(CliRunner().invoke(main, ["targets", "show", "mali-gpu", "--json"]).output)
    ids = [rule["id"] for rule in shown["rules"]]
    assert shown["sources"]
    assert len(ids) == len(set(ids))
    assert {"LRT-RANK-001", "MALI-CONV-001"} <= set(ids)


def test_an_unknown_rule_suggests_the_nearest() -> None:
    result = CliRunner().invoke(main, ["explain", "LRT-RANK-01"])
    assert result.exit_code == 2
    assert "did you mean LRT-RANK-001" in result.stderr


def _refused(path: Path) -> Path:
    """A network with an operator that the GPU delegate has not."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("ReverseSequence", ["r", "lengths"], ["y"], "back", batch_axis=0, time_axis=1),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 5]) for name in ("x", "y")]
    lengths = numpy_helper.from_array(np.int64([5, 2]), "lengths")
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [lengths])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def _run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def test_a_target_is_shown() -> None:
    result = _run("targets", "show", "mali-gpu")
    assert result.exit_code == 0, result.output
    for text in ("Arm Mali", "LRT-RANK-001", "max_rank > 4", "google-ai-edge/LiteRT"):
        assert text in result.output
    assert _run("targets", "show", "mali-gpo").exit_code == 2


def test_a_node_is_explained(tmp_path: Path) -> None:
    model = _refused(tmp_path / "net.onnx")
    result = _run("explain", model, "back", "-t", "mali-gpu")
    assert result.exit_code == 0, result.output
    assert "REVERSE_SEQUENCE" in result.output
    assert "is not read by" in result.output
    by_index = json.loads(_run("explain", model, "#1", "-t", "mali-gpu", "--json").output)
    assert by_index["ops"][0]["origin"]["nodes"] == ["back"]
    unknown = _run("explain", model, "bak", "-t", "mali-gpu")
    assert unknown.exit_code == 2
    assert "did you mean back" in unknown.stderr
    assert _run("explain", model, "back").exit_code == 2


def test_a_near_miss_says_why(tmp_path: Path) -> None:
    """A grouped convolution: the cures that the rule names were kept back, each with its reason."""
    weights = numpy_helper.from_array(np.ones((6, 3, 3, 3), np.float32), "w")
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6, 8, 8]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6, 6, 6]),
    ]
    node = helper.make_node("Conv", ["x", "w"], ["y"], "grouped", group=2)
    graph = helper.make_graph([node], "net", ends[:1], ends[1:], [weights])
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    found = json.loads(_run("explain", path, "grouped", "-t", "mali-gpu", "--json").output)
    assert found["ops"]
    assert all(near["reason"] for near in found["near_misses"])


_FILE = """target mine extends litert-gpu
title "My accelerator"
source page = "a page"
op TANH {
  MINE-001 fallback when max_rank > 1  "rank {max_rank} is too much"  cite page
}
"""


def test_a_rule_file_is_checked_and_tested(tmp_path: Path) -> None:
    rules, model, golden = tmp_path / "mine.rules", _refused(tmp_path / "net.onnx"), tmp_path / "golden.txt"
    rules.write_text(_FILE)
    result = _run("rules", "check", rules)
    assert result.exit_code == 0, result.output
    assert "fine" in result.output
    assert _run("rules", "test", rules, model).exit_code == 0
    assert _run("rules", "test", rules, model, "--golden", golden).exit_code == 2
    assert _run("rules", "test", rules, model, "--golden", golden, "--update").exit_code == 0
    assert golden.read_text().splitlines()[1] == "net.onnx #1 REVERSE_SEQUENCE fallback mine/unlisted"
    assert _run("rules", "test", rules, model, "--golden", golden).exit_code == 0
    rules.write_text(_FILE.replace("op TANH", "op RELU"))
    changed = _run("rules", "test", rules, model, "--golden", golden)
    assert changed.exit_code == 1
    assert "+net.onnx #0 RELU fallback MINE-001" in changed.stderr
    rules.write_text(_FILE.replace("cite page", "cite pages"))
    wrong = _run("rules", "check", rules)
    assert wrong.exit_code == 2
    assert "mine.rules:5:" in wrong.stderr
