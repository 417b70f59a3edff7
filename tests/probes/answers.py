"""What an accelerator answers to the probes, and the golden files that keep it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from convkit.dialects.tflite.writer import serialize
from convkit.verify import litert_gpu, xnnpack
from tests.probes.build import Probe, compute

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
# A kernel that computes another function is off by per cents; sine on a software device by 2e-4.
_WRONG = 1e-3


def relative_error(got: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> float:
    """The largest difference over all outputs, relative to the output's largest finite number."""
    worst = 0.0
    for name, reference in wanted.items():
        exact = reference.astype(np.float64)
        given = got[name].astype(np.float64).reshape(exact.shape)
        differ = ~((given == exact) | (np.isnan(given) & np.isnan(exact)))
        if not differ.any():
            continue
        finite = np.abs(exact[np.isfinite(exact)])
        scale = max(float(finite.max()) if finite.size else 0.0, 1e-9)
        with np.errstate(invalid="ignore"):
            error = float(np.abs(given - exact)[differ].max()) / scale
        worst = max(worst, error if np.isfinite(error) else np.inf)
    return worst


def word_of(answer: litert_gpu.GpuAnswer, made: Probe) -> str:
    """`taken`, `refused`, `wrong` or `fails`."""
    if answer.refused:
        return "refused"
    if answer.error is not None or (answer.run_error or "").startswith("ERROR"):
        return "fails"
    if answer.outputs is None:
        return "taken"
    return "wrong" if relative_error(answer.outputs, compute(made)) > _WRONG else "taken"


def ask_probes(probes: Iterable[Probe], compute_too: bool = True) -> dict[str, str]:
    """The accelerator's answer to each probe, by name; `wrong` is only found by computing too."""
    asked = list(probes)
    questions = [
        litert_gpu.GpuQuestion(bytes(serialize(p.graph)), len(p.graph.ops), p.inputs if compute_too else None)
        for p in asked
    ]
    answers = litert_gpu.ask_many(questions, timeout=300.0)
    return {p.name: word_of(a, p) for p, a in zip(asked, answers, strict=True)}


def ask_xnnpack(probes: Iterable[Probe]) -> dict[str, str]:
    """Whether XNNPACK takes each probe's operator, by name."""
    return {p.name: "taken" if xnnpack.ask(p.graph).taken[-1] else "refused" for p in probes}


def golden_file(target: str) -> Path:
    """Where the recorded answers for a target lie."""
    return GOLDEN / f"{target}.probes.txt"


def read_golden(target: str) -> dict[str, str]:
    """The recorded answers, by probe."""
    lines = [line for line in golden_file(target).read_text().splitlines() if not line.startswith("#")]
    return dict(line.split() for line in lines)  # type: ignore[misc]


def write_golden(target: str, answers: Mapping[str, str]) -> None:
    """Record answers, one `probe answer` a line."""
    head = f"# What the accelerator of {target} answers to tests/probes; written by bench/probes.py\n"
    golden_file(target).write_text(head + "".join(f"{name} {word}\n" for name, word in answers.items()))
