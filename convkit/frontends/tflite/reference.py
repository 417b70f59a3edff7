"""What a .tflite file itself computes, in LiteRT: the measure of what becomes of it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from convkit.frontends.imported import Runtime
from convkit.frontends.tflite.builder import STATES
from convkit.verify.runners import OnnxRuntime, RunError, run_tflite_apart, runtime_name

EIGHT_BIT_TOLERANCE = 4 / 255
"""Root mean square of the error over the range (of the integers themselves: over 255 of them) that kernels
for 8-bit numbers explain: they round multipliers to fixed point, and some round activations that the file
keeps in float."""

STEPS = 4
"""Runs in a row that a file with states is compared in."""

_INTEGERS = frozenset({"DequantizeLinear", "QuantizeLinear"})


def reference_of(data: bytes, imported: ir.Model) -> Runtime:
    """LiteRT on the file; for a quantized file the imported model, once LiteRT is seen to agree with it.

    LiteRT's kernels for quantized numbers round otherwise than the file's quantization says, so they cannot
    tell whether an artifact computes the model to the last bit; the imported model can.
    """
    litert = LiteRT(data, imported)
    states = imported.meta.get(STATES) or []
    if states:
        return _Streaming(OnnxRuntime(imported), litert, states)
    if any(node.op_type in _INTEGERS for node in imported.graph):
        return _Agreed(OnnxRuntime(imported), litert)
    return litert


class LiteRT:
    """The LiteRT interpreter on a file, in a process of its own: a malformed file can crash it."""

    def __init__(self, data: bytes, imported: ir.Model) -> None:
        self._data = data
        states = imported.meta.get(STATES) or []
        kept = {name for before, after, _ in states for name in (before, after)}
        self._inputs = [(v.name or "", v.dtype) for v in imported.graph.inputs if v.name not in kept]
        self._outputs = [v.name or "" for v in imported.graph.outputs if v.name not in kept]
        self.description = runtime_name()

    def run(self, inputs: Mapping[str, np.ndarray], steps: int = 1) -> dict[str, np.ndarray]:
        """Outputs by the imported model's names, after the last of `steps` runs on the same inputs."""
        feed = [
            np.asarray(inputs[name]).astype(dtype.numpy()) if dtype else inputs[name]
            for name, dtype in self._inputs
        ]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.tflite")
            path.write_bytes(self._data)
            return dict(zip(self._outputs, run_tflite_apart(path, feed, steps), strict=True))


class _Agreed:
    """The imported model in onnxruntime, held against LiteRT at every run."""

    def __init__(self, imported: Runtime, litert: LiteRT) -> None:
        self._imported, self._litert = imported, litert
        self.description = f"{imported.description} (with which {litert.description} agrees to 8 bits)"

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs of the imported model; RunError if LiteRT computes something else."""
        found = self._imported.run(inputs)
        _need_agreement(self._litert.run(inputs), found)
        return found


class _Streaming:
    """The imported model in onnxruntime, held against runs of LiteRT in a row, which keeps its own states."""

    def __init__(
        self, imported: Runtime, litert: LiteRT, states: Sequence[tuple[str, str, np.ndarray]]
    ) -> None:
        self._imported, self._litert, self._states = imported, litert, states
        self.description = f"{imported.description} (with which {STEPS} runs of {litert.description} agree)"

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs of the imported model; RunError if LiteRT computes something else."""
        kept = {before: initial for before, _, initial in self._states}
        for _ in range(STEPS):
            found = self._imported.run({**inputs, **kept})
            kept = {before: found[after] for before, after, _ in self._states}
        _need_agreement(self._litert.run(inputs, STEPS), found)
        return self._imported.run(inputs)


def _need_agreement(expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> None:
    for name, array in expected.items():
        off = disagreement(array, found[name])
        if off > EIGHT_BIT_TOLERANCE:
            raise RunError(
                f"the imported model and LiteRT differ in output {name!r}: the root mean square of the"
                f" difference is {off:.1%} of the range; this is a defect of convkit"
            )


def disagreement(expected: np.ndarray, found: np.ndarray) -> float:
    """Root mean square of the difference over the range of what is expected, or of 8-bit integers."""
    want, got = expected.astype(np.float64), found.astype(np.float64)
    known = np.isfinite(want) & np.isfinite(got)
    if not known.any():
        return 0.0
    error = float(np.sqrt(np.mean(np.square(want[known] - got[known]))))
    if expected.dtype.kind in "iu":
        return error / 255
    return error / (float(want[known].max(initial=0) - want[known].min(initial=0)) or 1.0)
