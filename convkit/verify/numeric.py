"""Whether the artifact computes the model's function: both are run on the same inputs and compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convkit.diagnostics import Diagnostic, Severity, error
from convkit.report.model import OutputError, Verification
from convkit.verify.inputs import Binding, load_inputs, random_candidates
from convkit.verify.runners import OnnxRuntime, RunError, give_back_memory, run_tflite, runtime_name

if TYPE_CHECKING:
    from convkit.frontends import Runtime

FLOAT32_TOLERANCE = 1e-5
"""Of the output's range: what float32 rounding explains over some hundred layers."""

FLOAT16_TOLERANCE = 1e-2
"""Of the output's range: float16 keeps 11 bits (5e-4 a value), and errors add up over layers."""

NOISE_FACTOR = 4
"""How many times the measured rounding noise an error may be: noise is the worst of a few trials only."""


def _decibel(signal: float, noise: float) -> float | None:
    """Ratio of two powers; None where there is no noise."""
    if noise == 0:
        return None
    return float(10 * np.log10(signal / noise)) if signal > 0 else -np.inf


def compare(name: str, expected: np.ndarray, actual: np.ndarray, tolerance: float) -> OutputError:
    """How far `actual` is from `expected`; both in the same axis order.

    Floating-point outputs are within tolerance when the greatest absolute error over the range of
    `expected` (the smallest interval that holds its finite values and zero) is at most `tolerance`;
    where either side is NaN or infinite the other must be the same. Other outputs must be equal.
    Raises ValueError if the shapes differ.
    """
    if expected.shape != actual.shape:
        raise ValueError(f"output {name!r} has shape {actual.shape}, the reference {expected.shape}")
    floating = expected.dtype.kind == "f" or expected.dtype.kind == "V"  # V: ml_dtypes such as bfloat16
    if not floating:
        differing = int(np.count_nonzero(expected != actual))
        off = np.abs(expected.astype(np.float64) - actual.astype(np.float64))
        largest = float(off.max(initial=0))
        return OutputError(name, expected.size, largest, _relative(largest, expected), None, None, None,
                           differing, differing == 0)  # fmt: skip
    want, got = expected.astype(np.float64), actual.astype(np.float64)
    finite = np.isfinite(want) & np.isfinite(got)
    same = (want == got) | (np.isnan(want) & np.isnan(got))
    mismatches = int(np.count_nonzero(~finite & ~same))
    want, got = want[finite], got[finite]
    off = want - got
    largest = float(np.abs(off).max(initial=0))
    relative = _relative(largest, want)
    noise = float(np.mean(np.square(off))) if off.size else 0.0
    signal = float(np.mean(np.square(want))) if want.size else 0.0
    norms = float(np.linalg.norm(want) * np.linalg.norm(got))
    return OutputError(
        name=name,
        elements=expected.size,
        max_abs=largest,
        max_rel=relative,
        psnr_db=_decibel(_range(want) ** 2, noise),
        sqnr_db=_decibel(signal, noise),
        cosine=min(1.0, float(np.dot(want, got)) / norms) if norms else None,
        mismatches=mismatches,
        passed=mismatches == 0 and relative <= tolerance,
        silent=bool(want.size) and not want.any(),
    )


def _range(values: np.ndarray) -> float:
    return float(values.max(initial=0)) - float(values.min(initial=0))


def _relative(error_: float, values: np.ndarray) -> float:
    """Error over range; over one where the range is zero (the reference is all zeros)."""
    return error_ / (_range(values) or 1.0)


@dataclass(frozen=True)
class ReferenceRun:
    """What the model itself answers: the runtime's name, what the inputs are, arrays by name."""

    runtime: str
    described: str
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]


def run_reference(
    reference: Runtime | Path | bytes,
    inputs: Sequence[Binding],
    data: Path | None = None,
    fixed: Mapping[str, Any] | None = None,
) -> ReferenceRun:
    """Run the model itself: in its own runtime, or an ONNX file or its bytes in onnxruntime.

    `data` is an .npz with one array per input; else the inputs are random (`random_candidates`). `fixed`
    holds the values of inputs that were frozen. Raises ConvkitError "reference-failed" if that
    cannot run it.
    """
    try:
        if isinstance(reference, (Path, bytes)):
            reference = OnnxRuntime(reference)
        described, given, expected = _reference_run(reference, inputs, data, fixed or {})
    except RunError as failed:
        raise error(
            "reference-failed",
            f"{_runtime_of(reference)} cannot run the model as imported, so nothing could be compared",
            notes=(_shortened(str(failed)),),
            help="check the model with onnx.checker, give real inputs by --inputs, or skip by --no-verify",
        ) from failed
    give_back_memory()
    return ReferenceRun(reference.description, described, given, expected)


def verify(
    reference: ReferenceRun,
    artifact: Path | bytes,
    inputs: Sequence[Binding],
    outputs: Sequence[Binding],
    *,
    tolerance: float = FLOAT32_TOLERANCE,
    noise: Callable[[], Mapping[str, float]] | None = None,
) -> Verification:
    """Run the .tflite `artifact` (one that convkit wrote) on the reference's inputs, compare every output.

    `inputs` and `outputs` are in the artifact's order. Where an error is above `tolerance`, `noise` is
    asked what rounding alone does to each output (`convkit.verify.noise`); up to NOISE_FACTOR times that
    passes. The caller judges `Verification.passed`.
    Raises ConvkitError "artifact-failed" if the artifact cannot run.
    """
    try:
        feeds = [partial(b.to_artifact, reference.inputs[b.name]) for b in inputs]
        computed = run_tflite(artifact, feeds)
    except (RunError, OverflowError) as failed:
        raise error(
            "artifact-failed",
            "LiteRT cannot run the compiled file; this is a defect of convkit",
            notes=(_shortened(str(failed)),),
        ) from failed
    found = {b.name: b.from_artifact(array) for b, array in zip(outputs, computed, strict=True)}
    expected = {name: reference.outputs[name] for name in found}
    errors = compare_all(expected, found, tolerance, noise)
    return Verification(reference.runtime, runtime_name(), reference.described, tolerance, errors)


def compare_all(
    expected: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    tolerance: float,
    noise: Callable[[], Mapping[str, float]] | None = None,
) -> tuple[OutputError, ...]:
    """Every expected output against the one of its name; `noise` as for `verify`."""
    errors = [compare(name, want, found[name], tolerance) for name, want in expected.items()]
    if noise is not None and not all(e.passed for e in errors):
        floor = noise()
        errors = [_against_noise(e, floor[e.name], tolerance) if e.name in floor else e for e in errors]
    return tuple(errors)


def _against_noise(found: OutputError, noise: float, tolerance: float) -> OutputError:
    integers = found.psnr_db is None and found.cosine is None
    same_kind = integers or not found.mismatches  # a NaN or infinity is no matter of rounding
    passed = same_kind and found.max_rel <= max(tolerance, NOISE_FACTOR * noise)
    return replace(found, noise=noise, passed=passed)


def _reference_run(
    reference: Runtime, inputs: Sequence[Binding], data: Path | None, fixed: Mapping[str, Any]
) -> tuple[str, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Description, inputs and outputs of the first inputs that the model takes and answers in finite
    numbers; of the first that it takes at all if none gives finite ones."""
    if data is not None:
        given = load_inputs(data, inputs)
        return f"inputs from {data}", given, reference.run({**given, **fixed})
    answered, failure = None, None
    for described, given in random_candidates(inputs):
        try:
            outputs = reference.run({**given, **fixed})
        except RunError as failed:
            failure = failed
            continue
        if all(np.isfinite(array).all() for array in outputs.values() if array.dtype.kind == "f"):
            return described, given, outputs
        answered = answered or (described, given, outputs)
    if answered is None:
        raise failure or RunError("no inputs")
    return answered


def _runtime_of(reference: Runtime | Path | bytes) -> str:
    return "onnxruntime" if isinstance(reference, (Path, bytes)) else reference.description.split()[0]


def _shortened(text: str, limit: int = 600) -> str:
    """Native runtimes can print a whole graph; the beginning says what is wrong."""
    return text if len(text) <= limit else text[:limit] + " …"


def mismatch(verification: Verification) -> Diagnostic | None:
    """The error to raise when an output is beyond tolerance, naming the worst one; else None."""
    worst = verification.worst
    if worst is None or worst.passed:
        return None
    if worst.mismatches:
        said = f"{worst.mismatches} of {worst.elements} elements differ"
    else:
        limit = verification.tolerance
        said = f"the error is {worst.max_rel:.2e} of the output's range, the tolerance {limit:.0e}"
        if worst.noise is not None:
            said += f", rounding alone explains {worst.noise:.1e}"
    failed = sum(not output.passed for output in verification.outputs)
    return Diagnostic(
        "wrong-numbers",
        f"output {worst.name!r} does not match {verification.reference}: {said}",
        Severity.ERROR,
        notes=(f"{failed} of {len(verification.outputs)} outputs are wrong; on {verification.inputs}",),
        help="find the rewrite that breaks it by --bisect, and report it",
    )
