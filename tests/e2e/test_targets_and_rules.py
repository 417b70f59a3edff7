"""`convkit targets` and `convkit rules`."""

from __future__ import annotations

import json

from click.testing import CliRunner

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
    result = CliRunner().invoke(main, ["rules", "lrt-rank-001"])
    assert result.exit_code == 0
    assert "max_rank > 4" in result.output
    assert "litert-gpu.rules:" in result.output
    (rule,) = json.loads(CliRunner().invoke(main, ["rules", "LRT-RANK-001", "--json"]).output)
    assert rule["severity"] == "fallback"
    assert rule["sources"]


def test_the_rules_of_a_target_are_listed() -> None:
    listed = json.loads(CliRunner().invoke(main, ["rules", "mali-gpu", "--json"]).output)
    ids = [rule["id"] for rule in listed]
    assert len(ids) == len(set(ids))
    assert {"LRT-RANK-001", "MALI-CONV-001"} <= set(ids)


def test_an_unknown_rule_suggests_the_nearest() -> None:
    result = CliRunner().invoke(main, ["rules", "LRT-RANK-01"])
    assert result.exit_code == 2
    assert "did you mean LRT-RANK-001" in result.stderr
