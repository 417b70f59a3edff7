"""convkit behind ONNX's own backend interface, so that the standard's test suite can be run against it.

    import onnx.backend.test
    from convkit.backend_onnx import TFLiteBackend
    tests = onnx.backend.test.BackendTest(TFLiteBackend, __name__)

Two forms: `NormalBackend` brings a model to normal form, runs the default passes and computes the result in
onnxruntime; `TFLiteBackend` goes on to a TFLite file and computes it in LiteRT's interpreter. What has no
normal form (convkit.ir.carried) the first carries as it is, and the second refuses by name.

The interface hands over a model without its inputs, and some operators take as an input what convkit must
know when it compiles: the shape of a Reshape, the axes of a Squeeze. A user gives those by `--freeze`; here
`run` does. An input is *bound*, that is, made a constant of the value that `run` was given, only if the
model cannot be compiled otherwise, only if it has one dimension at most, and only if it decides a parameter,
which is known by its name in the operator's schema (`PARAMETERS`). `ConvkitRep.bound` names the inputs. A
model is compiled once for each set of shapes, and anew for each run that binds inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnx.backend.base
import onnx_ir as ir

from convkit.diagnostics import ConvkitError
from convkit.frontends.onnx import load_onnx
from convkit.ir.facts import dtype_of
from convkit.ir.infer import NEWEST_OPSET, schema_of
from convkit.ir.normal import normalize
from convkit.passes.pipeline import PassManager, default_pipeline

Arrays = Mapping[str, np.ndarray]
Program = Callable[[Arrays], list[np.ndarray]]
"""A compiled model: inputs by name (it may be given more than it reads) to outputs in order."""

PARAMETERS = frozenset({
    "a_scale", "a_zero_point", "axes", "axis", "b_scale", "b_zero_point", "block_shape", "cond",
    "delta", "depth", "dft_length", "ends", "frame_length", "frame_step", "image_shape",
    "iou_threshold", "K", "k", "limit", "lower_edge_hertz", "M", "max_output_boxes_per_class",
    "num_mel_bins", "output_shape", "pads", "ratio", "repeats", "roi", "sample_rate", "scales",
    "score_threshold", "sequence_lens", "shape", "size", "sizes", "split", "start", "starts", "steps",
    "training_mode", "upper_edge_hertz", "w_scale", "w_zero_point", "x_scale", "x_zero_point",
    "y_scale", "y_zero_point",
})  # fmt: skip
"""Inputs, by their names in ONNX's schemas, that say what an operator does rather than what it does it to."""

_UNNAMED = frozenset({("Compress", 1), ("ConstantOfShape", 0)})
"""Further ones whose names in the schema say too little: operator and place."""


def compile_normal(model: ir.Model, carry: bool = False) -> Program:
    """The model in normal form, after the default passes, in onnxruntime. Changes `model`.

    With `carry`, what has no normal form (shapes that depend on data, sequences, strings, control flow that
    must stay, training) goes through as it is.
    """
    from convkit.verify.runners import Reference

    _optimize(model, carry)
    names = [value.name for value in model.graph.outputs]
    reference = Reference(ir.to_proto(model).SerializeToString())

    def run(inputs: Arrays) -> list[np.ndarray]:
        found = reference.run(inputs)
        return [found[name] for name in names if name is not None]

    return run


def compile_tflite(model: ir.Model) -> Program:
    """The model as a TFLite file in LiteRT's interpreter. Changes `model`.

    Integers of 4 and 2 bits come and go as what they are, though the file holds each in a byte.
    """
    from convkit.compiler.emit.tflite import lower_to_tflite
    from convkit.dialects.tflite.schema import held_in
    from convkit.dialects.tflite.writer import serialize
    from convkit.verify.runners import run_tflite

    _optimize(model)
    dtypes = [dtype_of(value).numpy() for value in model.graph.outputs]
    artifact = bytes(serialize(lower_to_tflite(model)[0]))
    names = [value.name or "" for value in model.graph.inputs]

    def run(inputs: Arrays) -> list[np.ndarray]:
        given = [inputs[name] for name in names]
        held = [array.astype(held_in(array.dtype), copy=False) for array in given]
        found = run_tflite(artifact, held, threads=1)
        return [y if held_in(t) == t else y.astype(t) for y, t in zip(found, dtypes, strict=True)]

    return run


def _optimize(model: ir.Model, carry: bool = False) -> None:
    normalize(model, carry)
    PassManager(default_pipeline()).run(model)


class ConvkitRep(onnx.backend.base.BackendRep):
    """A model ready to run; it is compiled by the first `run`, which brings the shapes.

    `bound` names the inputs that the last `run` made constants.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        build: Callable[[ir.Model], Program],
        carry: Callable[[ir.Model], Program] | None = None,
    ) -> None:
        self.bound: tuple[str, ...] = ()
        self._model = model
        self._build = build
        self._carry = carry
        self._programs: dict[Any, tuple[Program, tuple[str, ...]]] = {}
        constants = {tensor.name for tensor in model.graph.initializer}
        self._inputs = [value for value in model.graph.input if value.name not in constants]

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs, in order. `inputs`: one array, a sequence in the model's order, or a mapping.

        Raises ConvkitError where the model cannot be compiled, RunError where a runtime fails on it.
        """
        feed = self._feed(inputs)
        key = tuple((name, array.shape, array.dtype.str) for name, array in _arrays(feed).items())
        program, self.bound = self._programs.get(key) or self._compile(feed)
        if not self.bound:
            self._programs[key] = program, ()
        return tuple(program(feed))

    def _feed(self, inputs: Any) -> dict[str, Any]:
        """What is given by name; tensors as arrays."""
        if not isinstance(inputs, Mapping):
            given = inputs if isinstance(inputs, (list, tuple)) else [inputs]
            inputs = {value.name: array for value, array in zip(self._inputs, given, strict=True)}
        others = {value.name for value in self._inputs if not value.type.HasField("tensor_type")}
        return {name: found if name in others else np.asarray(found) for name, found in inputs.items()}

    def _compile(self, feed: Mapping[str, Any]) -> tuple[Program, tuple[str, ...]]:
        values = {name: feed[name] for name in parameter_inputs(self._model.graph) if name in feed}
        for bound in ({}, values) if values else ({},):
            try:
                return self._build(self._loaded(feed, bound)), tuple(bound)
            except ConvkitError as error:
                refusal = error
        if self._carry is None:
            raise refusal
        return self._carry(self._loaded(feed, {}, open_inputs=True)), ()

    def _loaded(self, feed: Mapping[str, Any], values: Arrays, open_inputs: bool = False) -> ir.Model:
        shapes = {name: array.shape for name, array in _arrays(feed).items() if name not in values}
        return load_onnx(self._model, shapes, values, open_inputs=open_inputs)


def _arrays(feed: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The tensors among the inputs."""
    return {name: found for name, found in feed.items() if isinstance(found, np.ndarray)}


def parameter_inputs(graph: onnx.GraphProto) -> list[str]:
    """The inputs of a graph, of one dimension at most, that some node's parameter (`PARAMETERS`) hangs on."""
    needed: set[str] = set()
    _collect(graph.node, needed)
    tensors = [v for v in graph.input if v.type.HasField("tensor_type")]
    return [v.name for v in tensors if v.name in needed and len(v.type.tensor_type.shape.dim) <= 1]


def _collect(nodes: Sequence[onnx.NodeProto], needed: set[str]) -> None:
    """Add to `needed` the values that some node's parameter hangs on, in bodies of control flow too."""
    for node in reversed(nodes):
        if node.op_type in ("Shape", "Size"):
            continue  # these read a shape, not a value
        hangs = not needed.isdisjoint(node.output)
        if hangs:
            needed.update(node.input)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                needed.update(value.name for value in attribute.g.output if hangs)
                _collect(attribute.g.node, needed)
        schema = schema_of(node.op_type, NEWEST_OPSET, node.domain)
        formals = [formal.name for formal in schema.inputs] if schema else []
        for place, name in enumerate(node.input):
            formal = formals[min(place, len(formals) - 1)] if formals else ""
            if formal in PARAMETERS or (node.op_type, place) in _UNNAMED:
                needed.add(name)


class ConvkitBackend(onnx.backend.base.Backend):
    """What both forms share; use `NormalBackend` or `TFLiteBackend`."""

    @staticmethod
    def build(model: ir.Model) -> Program:
        """Compile a model, which may be changed."""
        raise NotImplementedError

    carry: Callable[[ir.Model], Program] | None = None
    """The same for a model that `build` refuses, if there is a way."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> ConvkitRep:
        """A handle whose `run` compiles and computes."""
        return ConvkitRep(model, cls.build, cls.carry)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """The outputs of one operator on `inputs`, in order; `opset_version` defaults to the newest."""
        arrays = [np.asarray(a) for a in inputs]
        names = [name for name in node.input if name]
        graph = onnx.helper.make_graph(
            [node],
            "node",
            [
                onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
                for n, a in zip(names, arrays, strict=True)
            ],
            [onnx.ValueInfoProto(name=name) for name in node.output],
        )
        version = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        opset = onnx.helper.make_opsetid(node.domain, version)
        return cls.prepare(onnx.helper.make_model(graph, opset_imports=[opset])).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Both runtimes compute on the CPU."""
        return device.split(":")[0] == "CPU"


class NormalBackend(ConvkitBackend):
    """The normal form and the default passes, computed by onnxruntime."""

    build = staticmethod(compile_normal)
    carry = staticmethod(partial(compile_normal, carry=True))


class TFLiteBackend(ConvkitBackend):
    """The TFLite file, computed by LiteRT's interpreter."""

    build = staticmethod(compile_tflite)
