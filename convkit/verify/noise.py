"""How far rounding alone moves a model's outputs: the floor below which no error is meaningful.

A long or badly conditioned network amplifies the last bit of every layer, so two right runtimes differ.
The floor is measured, not guessed: the weights and inputs of the model are moved by half a unit in the
last place, up or down at random, and the same runtime answers again.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import constant, is_op
from convkit.verify.runners import Reference

FLOAT32_ROUNDOFF = 2.0**-24
FLOAT16_ROUNDOFF = 2.0**-11
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_TRIALS = 3


def _moved(array: np.ndarray, rng: np.random.Generator, roundoff: float) -> np.ndarray:
    if array.dtype != np.float32:
        return array
    signs = rng.integers(0, 2, array.shape, dtype=np.int8) * 2 - 1
    return np.asarray(array * (1 + signs * roundoff * 1.01)).astype(np.float32)


def rounding_noise(
    model: ir.Model, inputs: Mapping[str, np.ndarray], roundoff: float = FLOAT32_ROUNDOFF
) -> dict[str, float]:
    """The greatest change of each float output over three trials, relative to the output's range; of
    integers, those that a QuantizeLinear makes: rounding can move these by whole steps.

    `model` is in normal form and left as it is; `inputs` are arrays by name; `roundoff` is the unit
    roundoff of the precision the weights are stored in.
    """
    base = Reference(ir.to_proto(model).SerializeToString()).run(inputs)
    quantized = {v.name for v in model.graph.outputs if is_op(v.producer(), "QuantizeLinear")}
    noise = {name: 0.0 for name, array in base.items() if array.dtype.kind == "f" or name in quantized}
    for seed in range(_TRIALS):
        rng = np.random.default_rng(seed)
        trial = model.clone()
        weights = dict.fromkeys(
            _stored(node.inputs[1])
            for node in trial.graph
            if node.op_type in _WEIGHTED and len(node.inputs) > 1
        )
        for value in weights:
            array = constant(value)
            if value is not None and array is not None:
                value.const_value = ir.Tensor(_moved(array, rng, roundoff), name=value.name)
        moved = {name: _moved(array, rng, FLOAT32_ROUNDOFF) for name, array in inputs.items()}
        found = Reference(ir.to_proto(trial).SerializeToString()).run(moved)
        for name in noise:
            noise[name] = max(noise[name], _change(base[name], found[name]))
    return noise


def _stored(weight: ir.Value | None) -> ir.Value | None:
    """The constant to be moved: of quantized weights that is their scale."""
    producer = weight.producer() if weight is not None else None
    return producer.inputs[1] if producer is not None and is_op(producer, "DequantizeLinear") else weight


def _change(before: np.ndarray, after: np.ndarray) -> float:
    finite = np.isfinite(before) & np.isfinite(after)
    if not finite.any():
        return 0.0
    known = before[finite].astype(np.float64)
    span = max(known.max(), 0.0) - min(known.min(), 0.0)
    return float(np.abs(after[finite].astype(np.float64) - known).max() / (span or 1.0))
