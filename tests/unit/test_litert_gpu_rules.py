"""The rules of litert-gpu against the recorded answers of the accelerator to every probe."""

from __future__ import annotations

from functools import cache

import pytest

from convkit.targets import OpVerdict, Rule, RuleSeverity, Status, judge, load_target
from tests.probes import all_probes
from tests.probes.answers import read_golden


@cache
def _verdicts() -> dict[str, OpVerdict]:
    target = load_target("litert-gpu")
    return {probe.name: judge(probe.graph, target).ops[-1] for probe in all_probes()}


def _our_word(verdict: OpVerdict) -> str:
    if verdict.refused:
        return "refused"
    return "taken" if verdict.status is Status.ACCELERATED else "wrong"


@cache
def _golden() -> dict[str, str]:
    return read_golden()


def test_the_recorded_answers_are_those_of_the_probes() -> None:
    assert sorted(_golden()) == sorted(_verdicts())


def test_what_is_refused_is_what_we_say_is_refused() -> None:
    differ = [
        f"{name}: we say {_our_word(verdict)}, the accelerator {_golden()[name]}"
        for name, verdict in _verdicts().items()
        if (_our_word(verdict) == "refused") != (_golden()[name] == "refused")
    ]
    assert differ == []


def test_what_computes_wrong_is_never_called_fine() -> None:
    fine = [
        name
        for name, verdict in _verdicts().items()
        if _our_word(verdict) == "taken" and _golden()[name] in {"wrong", "fails"}
    ]
    assert fine == []


def test_few_probes_that_compute_right_are_rejected() -> None:
    rejected = [
        name
        for name, verdict in _verdicts().items()
        if _our_word(verdict) == "wrong" and _golden()[name] == "taken"
    ]
    assert len(rejected) <= 25, rejected


_TARGET = load_target("litert-gpu")
_PROBED = [rule for rule in _TARGET.rules if "probe" in rule.cites]


@pytest.mark.parametrize("rule", _PROBED, ids=lambda rule: rule.id)
def test_a_rule_that_cites_the_probes_is_shown_by_one_and_not_by_all(rule: Rule) -> None:
    words = {"refused"} if rule.severity is RuleSeverity.FALLBACK else {"wrong", "fails"}
    codes = {code for code, rules in _TARGET.ops.items() if rule in rules} or set(_TARGET.ops)
    of_op = {n: v for n, v in _verdicts().items() if v.code in codes}
    held = [n for n, v in of_op.items() if any(r.rule == rule.id and not r.undecided for r in v.reasons)]
    assert any(_golden()[n] in words for n in held), f"no probe shows {rule.id}: {held}"
    if rule.when:
        assert any(n not in held for n in of_op)
