"""Put every case through every form: in child processes, each case with a time limit, crashes survived."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
import onnx

from convkit import backend_onnx
from convkit.diagnostics import ConvkitError
from tests.conformance.suite import Case, cases

SECONDS = 60
"""A case that takes longer has failed."""

_READABLE = 13
"""The newest version of the file format that onnxruntime reads; it says nothing of operators."""


@dataclass(frozen=True)
class Result:
    """What became of a case in one form.

    `status`: passed, bound (passed with parameter inputs bound), refused (a Diagnostic; `code` is its code)
    or failed (wrong numbers, an artifact that does not run, a crash, the time limit).
    """

    status: str
    code: str = ""
    detail: str = ""


Runner = Callable[[Case], Result]


def _onnxruntime(case: Case) -> Result:
    """The case in onnxruntime itself, the bar for the normal form."""
    from convkit.verify.runners import Reference, RunError

    try:
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        model.ir_version = min(model.ir_version, _READABLE)
        reference = Reference(model.SerializeToString())
        names = [v.name for v in case.model.graph.output]
        known = {t.name for t in case.model.graph.initializer}
        inputs = [v.name for v in case.model.graph.input if v.name not in known]
        for given, wanted in case.data:
            found = reference.run(dict(zip(inputs, map(_tensor, given), strict=False)))
            compare([found[name] for name in names], wanted, case)
    except (RunError, TypeError, AttributeError) as refused:
        return Result("refused", "onnxruntime", _first_line(refused))
    return Result("passed")


def _convkit(backend: type[backend_onnx.ConvkitBackend]) -> Runner:
    def run(case: Case) -> Result:
        try:
            prepared = backend.prepare(case.model)
            for given, wanted in case.data:
                compare(prepared.run([_plain(a) for a in given]), wanted, case)
        except ConvkitError as refusal:
            first = refusal.diagnostics[0]
            return Result("refused", first.code, first.message)
        return Result("bound" if prepared.bound else "passed")

    return run


FORMS: dict[str, Runner] = {
    "onnxruntime": _onnxruntime,
    "normal": _convkit(backend_onnx.NormalBackend),
    "tflite": _convkit(backend_onnx.TFLiteBackend),
}


def _plain(value: Any) -> Any:
    from onnx import TensorProto, numpy_helper

    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


def _tensor(value: Any) -> Any:
    plain = _plain(value)
    return plain if plain is None or isinstance(plain, (list, np.ndarray)) else np.asarray(plain)


def compare(found: Sequence[Any], wanted: Sequence[Any], case: Case) -> None:
    """The standard's own comparison, and float32 rounding; AssertionError where an output differs."""
    from onnx.backend.test.runner import Runner as Standard

    expected = [_plain(w) for w in wanted]
    try:
        Standard.assert_similar_outputs(
            expected, list(found), rtol=case.rtol, atol=case.atol, model_dir=case.name
        )
    except AssertionError:
        if len(found) != len(expected) or not all(map(_rounds_to, found, expected)):
            raise


def _rounds_to(found: Any, wanted: Any) -> bool:
    """Whether float32 arrays differ by no more than a few units of rounding of the largest number."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    if found.dtype == wanted.dtype and found.shape == wanted.shape and found.dtype != np.float32:
        return np.array_equal(found, wanted)
    if found.dtype != np.float32 or wanted.dtype != np.float32 or found.shape != wanted.shape:
        return False
    if not (np.all(np.isfinite(wanted)) and np.all(np.isfinite(found))):
        return False
    unit = float(np.finfo(np.float32).eps) * float(np.max(np.abs(wanted), initial=0.0))
    return bool(np.all(np.abs(found - wanted) <= 4 * unit))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' | '.join(lines[:6])}"[:400]


def run_case(case: Case, form: str) -> Result:
    """One case in one form, in this process."""
    try:
        with np.errstate(all="ignore"):
            return FORMS[form](case)
    except AssertionError as wrong:
        kind = "wrong" if "Mismatch" in str(wrong) or "incorrect" in str(wrong) else "error"
        return Result("failed", kind, _first_line(wrong))
    except Exception as failed:  # noqa: BLE001 - whatever it is, it is this case's result
        return Result("failed", "error", _first_line(failed))


def _work(pipe: Connection, work: Sequence[tuple[int, str]]) -> None:
    """A child: answers each position in `work` that it is sent until the pipe closes."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    everything = cases()
    while True:
        try:
            at = pipe.recv()
        except EOFError:
            return
        index, form = work[at]
        pipe.send(run_case(everything[index], form))


class _Child:
    def __init__(self, work: Sequence[tuple[int, str]]) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()
        self.at = -1
        self.until = 0.0

    def give(self, at: int) -> None:
        self.at, self.until = at, time.monotonic() + SECONDS
        self.pipe.send(at)

    def end(self) -> int | None:
        self.process.kill()
        self.process.join()
        self.pipe.close()
        return self.process.exitcode


def run_all(
    indices: Iterable[int], forms: Sequence[str] = tuple(FORMS), processes: int = 4
) -> dict[tuple[str, str, str], Result]:
    """Results by kind and name of the case, and form."""
    everything = cases()
    work = [(index, form) for index in indices for form in forms]
    results: dict[tuple[str, str, str], Result] = {}
    todo = iter(range(len(work)))
    children = [child for child in (_Child(work) for _ in range(processes)) if _feed(child, todo)]
    while children:
        ready = wait([c.pipe for c in children], timeout=1.0)
        for child in list(children):
            result: Result | None = None
            if child.pipe in ready:
                try:
                    result = child.pipe.recv()
                except (EOFError, ConnectionResetError):
                    child.process.join()
                    result = Result("failed", "crash", f"the process ended with {child.process.exitcode}")
            elif time.monotonic() > child.until:
                result = Result("failed", "time", f"no answer in {SECONDS} s")
            if result is None:
                continue
            index, form = work[child.at]
            results[everything[index].kind, everything[index].name, form] = result
            if result.code in ("crash", "time"):
                child.end()
                children.remove(child)
                child = _Child(work)
                children.append(child)
            if not _feed(child, todo):
                child.end()
                children.remove(child)
    return results


def _feed(child: _Child, todo: Any) -> bool:
    at = next(todo, None)
    if at is None:
        return False
    child.give(at)
    return True
