"""The node cases that come with ONNX, over all opsets: right numbers or a refusal, nothing else."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from convkit.diagnostics import ConvkitError
from convkit.frontends.onnx import load_onnx
from convkit.ir.normal import normalize
from convkit.ir.verify import check

Feed = dict[str, np.ndarray]


def normal_form(proto: onnx.ModelProto, feed: Feed) -> ir.Model:
    """The model's normal form; where shapes hang on integer inputs, these become constants."""
    try:
        model = load_onnx(proto)
        normalize(model)
        return model
    except ConvkitError:
        bound = onnx.ModelProto()
        bound.CopyFrom(proto)
        fixed = {n: a for n, a in feed.items() if a.dtype.kind in "iub" or n in ("scales", "roi")}
        bound.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in fixed.items())
        model = load_onnx(bound, {n: a.shape for n, a in feed.items() if n not in fixed})
        normalize(model)
        return model


def execute(proto: onnx.ModelProto, feed: Feed) -> list[np.ndarray] | None:
    """The outputs, or None where the runtime lacks the operator or its types."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
        return session.run(None, {v.name: feed[v.name] for v in session.get_inputs()})
    except (
        state.Fail,
        state.NotImplemented,
        state.InvalidGraph,
        state.InvalidArgument,
        state.RuntimeException,
    ):
        return None


def same(found: list[np.ndarray], wanted: list[np.ndarray]) -> bool:
    return len(found) == len(wanted) and all(
        a.shape == np.shape(b)
        and a.dtype == np.asarray(b).dtype
        and (
            np.array_equal(a, b)
            if a.dtype.kind not in "fc"
            else np.allclose(a, b, 1e-3, 1e-5, equal_nan=True)
        )
        for a, b in zip(found, wanted, strict=True)
    )


@pytest.mark.filterwarnings("ignore")
def test_every_case_is_right_or_refused() -> None:
    counts: Counter[str] = Counter()
    wrong = []
    for case in load_model_tests(kind="node"):
        inputs, outputs = case.data_sets[0] if case.data_sets else ([], [])
        if not case.data_sets or any(
            not isinstance(a, (np.ndarray, np.generic)) for a in (*inputs, *outputs)
        ):
            counts["no tensors"] += 1
            continue
        feed = {v.name: np.asarray(a) for v, a in zip(case.model.graph.input, inputs, strict=False)}
        try:
            model = normal_form(case.model, feed)
            check(model)
        except ConvkitError:
            counts["refused"] += 1
            continue
        found = execute(ir.to_proto(model), feed)
        if found is None:
            counts["not run"] += 1
        elif same(found, outputs) or same(found, execute(case.model, feed) or []):
            counts["right"] += 1
        else:
            wrong.append(case.name)
    assert wrong == []
    assert counts["right"] >= 1300, counts
