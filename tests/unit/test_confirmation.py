"""What a report says of its own comparisons: agreement with an oracle, doubts, remarks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convkit.compiler.assemble import doubts, remarks
from convkit.compiler.oracle import Said, _agree
from convkit.report import Finding, OracleAnswer, Verification
from convkit.targets import OpVerdict, Reason, RuleSeverity, Status
from convkit.verify.numeric import compare

TAKEN = Said(taken=True)
REFUSED = Said(taken=False, words="Only support 1D indices")
CRASHED = Said(taken=True, fails=True)


def _verdict(status: Status, *severities: RuleSeverity) -> OpVerdict:
    reasons = tuple(Reason(f"R-{i}", severity, "why") for i, severity in enumerate(severities))
    return OpVerdict(0, "GATHER", status, reasons)


@pytest.mark.parametrize(
    ("verdict", "said", "agree"),
    [
        (_verdict(Status.ACCELERATED), TAKEN, True),
        (_verdict(Status.STRANDED), TAKEN, True),
        (_verdict(Status.ACCELERATED, RuleSeverity.SLOW), TAKEN, True),
        (_verdict(Status.ACCELERATED), REFUSED, False),
        (_verdict(Status.ACCELERATED), CRASHED, False),
        (_verdict(Status.FALLBACK, RuleSeverity.FALLBACK), REFUSED, True),
        (_verdict(Status.FALLBACK, RuleSeverity.FALLBACK), TAKEN, False),
        (_verdict(Status.FALLBACK, RuleSeverity.REJECT), CRASHED, True),
        # a rejected operator is taken and computed wrong, which the oracle's yes does not contradict
        (_verdict(Status.FALLBACK, RuleSeverity.REJECT), TAKEN, True),
        (_verdict(Status.FALLBACK, RuleSeverity.REJECT), REFUSED, False),
    ],
)
def test_when_a_verdict_agrees_with_an_oracle(verdict: OpVerdict, said: Said, agree: bool) -> None:
    assert _agree(verdict, said) is agree


def _verification(expected: list[float], actual: list[float], noise: float | None) -> Verification:
    found = compare("y", np.float32(expected), np.float32(actual), 1e-5)
    return Verification("ref", "run", "inputs", 1e-5, (replace(found, noise=noise, passed=True),))


def test_a_silent_output_and_a_sensitive_one_are_doubted() -> None:
    assert doubts(None) == ()
    assert doubts(_verification([1, 2], [1, 2], None)) == ()
    (silent,) = doubts(_verification([0, 0], [0, 1e-20], None))
    assert silent.code == "silent-output"
    (sensitive,) = doubts(_verification([0, 1], [0, 1.001], 5e-4))
    assert sensitive.code == "sensitive-output"
    assert "1.0e-03 of its range" in sensitive.message
    assert "by 5.0e-04" in sensitive.message


def test_an_oracle_that_computes_something_else_is_an_error() -> None:
    right = compare("y", np.float32([0, 1]), np.float32([0, 1]), 1e-2)
    wrong = compare("z", np.float32([0, 1]), np.float32([0, 2]), 1e-2)
    answer = OracleAnswer("litert-gpu", True, 2, 2, outputs=(right, wrong))
    (found,) = remarks(answer)
    assert (found.code, found.severity) == ("wrong-on-accelerator", "error")
    assert "output 'z'" in found.message
    assert remarks(None) == ()
    unavailable = Finding("oracle-unavailable", "no device")
    assert remarks(unavailable) == (unavailable,)
