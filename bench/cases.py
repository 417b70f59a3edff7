"""The models of the GPU campaign with inputs: ONNX's own node cases, and the torch modules of the zoo."""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from convkit.dialects.tflite.graph import Graph
from convkit.verify.litert_gpu import GpuAnswer
from convkit.verify.runners import Reference, RunError, run_tflite

Case = tuple[str, onnx.ModelProto, dict[str, np.ndarray]]

# A kernel that computes another function is off by per cents.
WRONG = 1e-3


class NotRunError(Exception):
    """onnxruntime does not run the model as given."""


def names(sets: Sequence[str], batches: Sequence[int]) -> list[str]:
    """The names of all cases: `onnx/test_...`, `torch/NAME/BATCH`."""
    found: list[str] = []
    if "onnx" in sets:
        found += [f"onnx/{name}" for name in _node_cases()]
    if "torch" in sets:
        from bench.zoo import ZOO

        found += [f"torch/{name}/{batch}" for name in ZOO for batch in batches]
    return found


@cache
def _node_cases() -> dict[str, Any]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in load_model_tests(kind="node") if case.data_sets}


def load(wanted: Sequence[str], folder: Path | None) -> Iterator[Case]:
    """The models of these names with inputs; exported torch modules are kept in `folder`."""
    for name in wanted:
        kind, _, rest = name.partition("/")
        try:
            case = _node_case(rest) if kind == "onnx" else _exported(rest, folder)
        except Exception as why:  # the exporter's own limits
            print(f"{name}: {' '.join(str(why).split())[:300]}", file=sys.stderr, flush=True)
            continue
        if case is not None:
            yield name, *case


def _node_case(name: str) -> tuple[onnx.ModelProto, dict[str, np.ndarray]] | None:
    """A node case; integer inputs and those that decide shapes become constants where that is needed."""
    case = _node_cases()[name]
    inputs = case.data_sets[0][0]
    if any(not isinstance(a, (np.ndarray, np.generic)) for a in inputs):
        return None
    feed = {v.name: np.asarray(a) for v, a in zip(case.model.graph.input, inputs, strict=False)}
    if _static(case.model, feed):
        return case.model, feed
    fixed = {n for n, a in feed.items() if a.dtype.kind in "iu" or n in ("scales", "roi")}
    if len(fixed) == len(feed):
        return case.model, feed
    bound = onnx.ModelProto()
    bound.CopyFrom(case.model)
    bound.graph.initializer.extend(numpy_helper.from_array(feed[n], n) for n in sorted(fixed))
    kept = [v for v in bound.graph.input if v.name not in fixed]
    del bound.graph.input[:]
    bound.graph.input.extend(kept)
    return bound, {n: a for n, a in feed.items() if n not in fixed}


def _static(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> bool:
    """Whether the model compiles with all its inputs known at run time only."""
    from convkit.compiler import CompileOptions, compile_model
    from convkit.diagnostics import ConvkitError

    if all(a.dtype.kind not in "iu" and n not in ("scales", "roi") for n, a in feed.items()):
        return True
    try:
        compile_model(model, "mali-gpu", CompileOptions(verify=False))
    except ConvkitError:
        return False
    return True


def _exported(name: str, folder: Path | None) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    from bench.zoo import ZOO

    key, _, batch = name.rpartition("/")
    made = ZOO[key]
    shapes = [(int(batch) * s[0], *s[1:]) for s in made.shapes]
    path = folder / f"{hashlib.sha1(repr((name, shapes)).encode()).hexdigest()[:16]}.onnx" if folder else None
    if path is not None and path.exists():
        proto = onnx.load(path)
    else:
        proto = made.export(shapes)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            onnx.save(proto, path)
    rng = np.random.default_rng(0)
    given = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    return proto, dict(zip((v.name for v in proto.graph.input), given, strict=True))


def reference(proto: onnx.ModelProto, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The model's outputs in onnxruntime; NotRunError where it lacks the operator."""
    try:
        found = Reference(proto.SerializeToString()).run(feed)
    except RunError as why:
        raise NotRunError(str(why)) from why
    return [found[v.name] for v in proto.graph.output]


def random_feeds(graph: Graph) -> dict[str, np.ndarray]:
    """Inputs for a graph of one operator: positive floats for functions that ask for them, small integers."""
    rng = np.random.default_rng(0)
    positive = graph.ops[-1].code in {"LOG", "SQRT", "RSQRT", "POW"}
    feeds = {}
    for name, tensor in zip(graph.signature_inputs, graph.inputs, strict=True):
        if tensor.dtype == np.bool_:
            feeds[name] = rng.integers(0, 2, tensor.shape).astype(np.bool_)
        elif tensor.dtype.kind in "iu":
            low = 0 if graph.ops[-1].code in {"GATHER", "GATHER_ND", "ONE_HOT", "DYNAMIC_UPDATE_SLICE"} else 1
            feeds[name] = rng.integers(low, low + 2, tensor.shape).astype(tensor.dtype)
        else:
            values = rng.standard_normal(tensor.shape)
            feeds[name] = (np.abs(values) + 0.1 if positive else values).astype(tensor.dtype)
    return feeds


def interpret(model: bytes, graph: Graph, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """What LiteRT's interpreter computes, by signature name; None where it does not run the operator."""
    try:
        found = run_tflite(model, [feeds[name] for name in graph.signature_inputs], threads=1)
    except RunError:
        return None
    return dict(zip(graph.signature_outputs, found, strict=True))


def word_of(answer: GpuAnswer, wanted: dict[str, np.ndarray] | None) -> tuple[str, float | None]:
    """`taken`, `refused`, `wrong`, `fails`, and the error relative to the greatest number."""
    if answer.refused:
        return "refused", None
    if answer.error is not None or (answer.run_error or "").startswith("ERROR"):
        return "fails", None
    if not answer.fully_accelerated:
        return "refused", None
    if answer.outputs is None or wanted is None:
        return "taken", None
    worst = 0.0
    for name, expected in wanted.items():
        exact = expected.astype(np.float64)
        given = np.asarray(answer.outputs[name]).astype(np.float64).reshape(exact.shape)
        differ = ~((given == exact) | (np.isnan(given) & np.isnan(exact)))
        if differ.any():
            finite = np.abs(exact[np.isfinite(exact)])
            scale = max(float(finite.max(initial=0.0)), 1e-9)
            with np.errstate(invalid="ignore"):
                error = float(np.abs(given - exact)[differ].max()) / scale
            worst = max(worst, error if np.isfinite(error) else np.inf)
    return ("wrong" if worst > WRONG else "taken"), worst
