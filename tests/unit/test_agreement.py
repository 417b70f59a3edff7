"""The agreement page: figures from records, and records from reports."""

from __future__ import annotations

from dataclasses import replace

from bench.agreement import record
from bench.agreement_page import Figures, agreement_of, page
from tests.unit.reports import partial, whole

_MODELS = {
    "corpus/a": {"ops": 10, "ours": 3, "theirs": 2, "both": 2, "whole": False, "version": "1.0",
                 "off": {"GATHER: R-1": 3}, "differ": ["operator 4 (GATHER): we say fallback, it takes it"]},
    "corpus/b int8": {"ops": 6, "ours": 0, "theirs": 0, "both": 0, "whole": True, "error": 0.5},
    "corpus/c": {"refused": "control-flow"},
}  # fmt: skip


def test_a_report_becomes_a_record() -> None:
    report = partial()
    assert report.oracle is not None
    ours = sum(op.verdict == "fallback" for op in report.ops)
    found = record(replace(report, oracle=replace(report.oracle, differ=(3,), version="2.3")))
    assert (found["ops"], found["ours"]) == (len(report.ops), ours)
    assert found["both"] == ours - (report.ops[3].verdict == "fallback")
    assert abs(found["theirs"] - ours) == 1
    assert found["version"] == "2.3"
    assert record(whole())["whole"] is True
    assert record(replace(whole(), oracle=None)) == {"refused": "the oracle was not asked"}


def test_the_page_counts_agreements_precision_and_recall() -> None:
    text = page({"npu": {"some-npu": _MODELS}})
    assert "| some-npu | npu 1.0 | 2 | 1 | 16 | 15 (93.75 %) | 66.67 % | 100.00 % |" in text
    assert "1 x (GATHER): we say fallback, it takes it. Cause: not known yet (corpus/a)" in text
    assert "- corpus: 2\n- corpus int8: 1" in text
    assert "- control-flow: 1 (corpus/c)" in text
    assert "corpus/b int8: 0.5" in text


def test_a_target_has_the_agreement_of_what_it_extends() -> None:
    assert Figures.of(_MODELS).agreements == 15
    found = {"litert-gpu": {"mali-gpu": _MODELS}}
    assert agreement_of("litert-gpu", ("mali-gpu", "litert-gpu"), found) == "93.75 % of 16"
    assert agreement_of("litert-gpu", ("adreno-gpu", "litert-gpu"), found) == "93.75 % of 16"
    assert agreement_of(None, ("other",), {"npu": {"some-npu": _MODELS}}) == "-"
