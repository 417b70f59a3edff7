"""The rules of a target against the recorded answers of its accelerator to every probe."""

from __future__ import annotations

from functools import cache

import pytest

from convkit.targets import OpVerdict, Rule, RuleSeverity, Status, judge, load_target
from tests.probes.answers import QNN_TARGETS, VELA_TARGETS, probes_of, read_golden

TARGETS = ("litert-gpu", "tflite-cpu", *VELA_TARGETS, *QNN_TARGETS)
# The corners of one pixel, and with half-pixel centers, which exclude each other: Vela's two NPUs differ.
_CORNERS = ("RESIZE_NEAREST_NEIGHBOR/1x1-align/", "RESIZE_NEAREST_NEIGHBOR/5x6-align-half/")
KNOWN = {
    # the provider multiplies by some equations only, and a rule cannot read an equation
    "Einsum/bchw.bkc-bkhw", "Einsum/bnc.bmc-bn",
    # ONNX Runtime has no kernel for float16 and spells these out, by operators that the provider takes
    "ReduceL1/f16", "ReduceLogSum/f16", "ReduceSumSquare/f16",
    # within a model 64-bit integers are 32-bit ones; here they are its output
    "Cast/bool-i64", "Cast/f16-i64", "Cast/f32-i64", "Cast/u8-i64",
}  # fmt: skip
"""Probes that are judged otherwise than answered, and why."""


@cache
def _verdicts(name: str) -> dict[str, OpVerdict]:
    target = load_target(name)
    return {probe.name: judge(probe.graph, target).ops[-1] for probe in probes_of(name)}


@cache
def _golden(name: str) -> dict[str, str]:
    return read_golden(name)


def _our_word(verdict: OpVerdict) -> str:
    if verdict.refused:
        return "refused"
    return "taken" if verdict.status is Status.ACCELERATED else "wrong"


@pytest.mark.parametrize("target", TARGETS)
def test_the_recorded_answers_are_those_of_the_probes(target: str) -> None:
    assert sorted(_golden(target)) == sorted(_verdicts(target))


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_refused_is_what_we_say_is_refused(target: str) -> None:
    differ = [
        f"{name}: we say {_our_word(verdict)}, the accelerator {_golden(target)[name]}"
        for name, verdict in _verdicts(target).items()
        if (_our_word(verdict) == "refused") != (_golden(target)[name] == "refused")
        and not (target in VELA_TARGETS and (name.startswith(_CORNERS) or _golden(target)[name] == "fails"))
        and name not in KNOWN
    ]
    assert differ == []


@pytest.mark.parametrize("target", TARGETS)
def test_what_computes_wrong_is_never_called_fine(target: str) -> None:
    fine = [
        name
        for name, verdict in _verdicts(target).items()
        if _our_word(verdict) == "taken" and _golden(target)[name] in {"wrong", "fails"}
    ]
    assert fine == []


def test_few_probes_that_compute_right_are_rejected() -> None:
    """Some layouts come out right by the luck of their sizes; a rule may not rest on luck."""
    rejected = [
        name
        for name, verdict in _verdicts("litert-gpu").items()
        if _our_word(verdict) == "wrong" and _golden("litert-gpu")[name] == "taken"
    ]
    assert len(rejected) <= 15, rejected


_PROBED = [
    (target, rule) for target in TARGETS for rule in load_target(target).rules if "probe" in rule.cites
]


@pytest.mark.parametrize(("target", "rule"), _PROBED, ids=[rule.id for _, rule in _PROBED])
def test_a_rule_that_cites_the_probes_is_shown_by_one_and_not_by_all(target: str, rule: Rule) -> None:
    words = {"refused"} if rule.severity is RuleSeverity.FALLBACK else {"wrong", "fails"}
    ops = load_target(target).ops
    codes = {code for code, rules in ops.items() if rule in rules} or set(ops)
    of_op = {n: v for n, v in _verdicts(target).items() if v.code in codes}
    held = [n for n, v in of_op.items() if any(r.rule == rule.id and not r.undecided for r in v.reasons)]
    assert any(_golden(target)[n] in words for n in held), f"no probe shows {rule.id}: {held}"
    if rule.when:
        assert any(n not in held for n in of_op)
