"""The test cases that come with the installed onnx, as plain records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted", "light")

# Element types of ONNX that no TFLite tensor has, or that the count leaves out by decision.
_NO_TYPES = frozenset(
    TensorProto.DataType.Value(name)
    for name in (
        "STRING", "COMPLEX64", "COMPLEX128", "BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2",
        "FLOAT8E5M2FNUZ", "FLOAT8E8M0", "FLOAT4E2M1", "UINT2",
    )
)  # fmt: skip
_RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
_NO_TENSORS = {"sequence_type", "map_type", "optional_type", "sparse_tensor_type", "opaque_type"}


@dataclass(frozen=True)
class Case:
    """One case: a model, and sets of inputs with the outputs they must give within `rtol` and `atol`."""

    name: str
    kind: str
    model: onnx.ModelProto
    data: tuple[tuple[list[Any], list[Any]], ...]
    rtol: float
    atol: float

    @property
    def operator(self) -> str:
        """What the case is about: the operator of its first node, or the kind for whole networks."""
        if self.kind == "light":
            return "(networks)"
        nodes = self.model.graph.node
        first = next((n for n in nodes if n.op_type not in ("Constant", "Identity")), nodes[0])
        return f"{first.domain}::{first.op_type}" if first.domain else first.op_type

    @property
    def outside(self) -> str:
        """Why the case is not counted for TFLite; empty for those that are."""
        if "training" in " ".join(n.domain for n in self.model.graph.node) or self._trains():
            return "training"
        if any(node.op_type in _RANDOM for node in self.model.graph.node):
            return "random"
        if any(
            "Sequence" in node.op_type and node.op_type != "ReverseSequence" for node in self.model.graph.node
        ):
            return "sequence"
        if any(node.op_type.startswith("Optional") for node in self.model.graph.node):
            return "optional"
        for proto in _types(self.model.graph):
            kind = proto.WhichOneof("value")
            if kind in _NO_TENSORS:
                return str(kind).removesuffix("_type").replace("_tensor", "")
            if proto.tensor_type.elem_type in _NO_TYPES:
                return TensorProto.DataType.Name(proto.tensor_type.elem_type).lower()
        return ""

    def _trains(self) -> bool:
        for node in self.model.graph.node:
            if any(a.name == "training_mode" and a.i for a in node.attribute):
                return True
            if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
                return "training" in self.name
        return False


def _types(graph: onnx.GraphProto) -> Iterator[onnx.TypeProto]:
    """The types of the interface, of initializers and of constants, bodies of control flow included."""
    for value in (*graph.input, *graph.output):
        yield value.type
    for tensor in graph.initializer:
        yield onnx.helper.make_tensor_type_proto(tensor.data_type, None)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield onnx.helper.make_tensor_type_proto(attribute.t.data_type, None)
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _types(attribute.g)
            if attribute.name == "to":
                yield onnx.helper.make_tensor_type_proto(attribute.i, None)


@cache
def cases() -> tuple[Case, ...]:
    """Every case of every kind; names are unique within a kind."""
    return tuple(case for kind in KINDS for case in _cases(kind))


def _cases(kind: str) -> Iterator[Case]:
    from onnx.backend.test.loader import load_model_tests

    if kind == "light":
        yield from _networks()
        return
    with catch_warnings():
        simplefilter("ignore")
        found = load_model_tests(kind=kind)
    for case in sorted(found, key=lambda c: str(c.name)):
        if case.model is not None:
            data = tuple(([*inputs], [*outputs]) for inputs, outputs in case.data_sets or ())
            yield Case(case.name, kind, case.model, data, case.rtol, case.atol)
        elif case.model_dir is not None:
            folder = Path(case.model_dir)
            model = onnx.load(folder / "model.onnx")
            yield Case(case.name, kind, model, _stored(folder, model), case.rtol, case.atol)


def _stored(folder: Path, model: onnx.ModelProto) -> tuple[tuple[list[Any], list[Any]], ...]:
    def read(part: Path, role: str, values: Any) -> list[Any]:
        count = len(list(part.glob(f"{role}_*.pb")))
        return [_value(part / f"{role}_{i}.pb", values[i].type) for i in range(count)]

    return tuple(
        (read(part, "input", model.graph.input), read(part, "output", model.graph.output))
        for part in sorted(folder.glob("test_data_set_*"))
    )


def _value(path: Path, kind: onnx.TypeProto) -> Any:
    """A stored input or output: an array, or for other types the message as it is."""
    form = kind.WhichOneof("value")
    proto = {"sequence_type": onnx.SequenceProto, "optional_type": onnx.OptionalProto}.get(
        str(form), onnx.TensorProto
    )()
    proto.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(proto) if isinstance(proto, onnx.TensorProto) else proto


def _networks() -> Iterator[Case]:
    """Known architectures with made-up weights, on the ramp that the standard's own runner feeds them."""
    from onnx.backend.test.loader import DATA_DIR, load_model_tests

    tolerances = {c.model_name: (c.rtol, c.atol) for c in load_model_tests(kind="real")}
    for path in sorted(Path(DATA_DIR, "light").glob("*.onnx")):
        model = onnx.load(path)
        constants = {tensor.name for tensor in model.graph.initializer}
        inputs = []
        for value in model.graph.input:
            if value.name not in constants:
                shape = [
                    d.dim_value if d.HasField("dim_value") else 1 for d in value.type.tensor_type.shape.dim
                ]
                count = int(np.prod(shape))
                inputs.append((np.arange(count).reshape(shape) / count).astype(np.float32))
        wanted = sorted(path.parent.glob(f"{path.stem}_output_*.pb"))
        outputs = [numpy_helper.to_array(onnx.load_tensor(str(p))) for p in wanted]
        rtol, atol = tolerances.get(path.stem, (1e-3, 1e-7))
        yield Case(path.stem, "light", model, ((inputs, outputs),), rtol, atol)
