"""Does a runtime compute a Q/DQ model as it is written? Each step is computed again from its integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from convkit.dialects.onnx.write import to_onnx


@dataclass(frozen=True)
class StepError:
    """How far, in steps of its grid, a quantized value is from the float simulation of what makes it."""

    name: str
    steps: float


def value_errors(model: ir.Model, inputs: Mapping[str, np.ndarray]) -> list[StepError]:
    """The error of each quantized activation of a Q/DQ model in onnxruntime, with all its fusions.

    The model is cut behind every QuantizeLinear: what onnxruntime with its integer kernels computed is put
    into the model as written (in float, from one QuantizeLinear to the next), and its results compared.
    """
    from convkit.verify.runners import Reference

    whole = model.clone()
    names = [v.name or "" for v in _quantized(whole)]
    present = {v.name for v in whole.graph.outputs}
    whole.graph.outputs.extend(v for v in _quantized(whole) if v.name not in present)
    (stored,) = run_fused(whole, [inputs])
    found = Reference(ir.to_proto(_cut(whole)).SerializeToString()).run(
        {**inputs, **{_cut_name(name): stored[name] for name in names}}
    )
    return [StepError(name, _off(stored[name], found[name])) for name in names]


def run_fused(model: ir.Model, samples: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """Outputs by name of a Q/DQ model in onnxruntime, for each sample: with all its fusions, or as written
    where onnxruntime cannot run what it fuses (seen: integer convolutions of mixed signs).

    Raises RunError.
    """
    from convkit.verify.runners import Reference, RunError

    # Its fusions stumble over attributes that are implied, which `to_onnx` leaves out.
    written = to_onnx(model, opset=model.graph.opset_imports[""]).SerializeToString()
    try:
        reference = Reference(written, optimized=True)
        return [reference.run(sample) for sample in samples]
    except RunError:
        reference = Reference(written)
        return [reference.run(sample) for sample in samples]


def _off(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.float64) - b).max(initial=0.0))


def _quantized(model: ir.Model) -> list[ir.Value]:
    return [node.outputs[0] for node in model.graph if node.op_type == "QuantizeLinear"]


def _cut_name(name: str) -> str:
    return f"{name}/cut"


def _cut(model: ir.Model) -> ir.Model:
    for value in _quantized(model):
        fresh = ir.Value(name=_cut_name(value.name or ""), type=value.type, shape=value.shape)
        for use in list(value.uses()):
            use.node.replace_input_with(use.idx, fresh)
        model.graph.inputs.append(fresh)
    return model
