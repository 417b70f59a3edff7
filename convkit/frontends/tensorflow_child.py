"""The process that holds TensorFlow: it converts one model to ONNX, and runs it as the reference.

It is run as a script, by an interpreter that has tensorflow and tf2onnx; it knows nothing of convkit. Each
line of standard input is a request in JSON, each line of the answer's stream its answer.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OPSET = 18  # the newest that tf2onnx 1.17 writes
_OUTSIDE = frozenset({"PyFunc", "EagerPyFunc", "PyFuncStateless", "ReadFile", "WriteFile"})
"""Graph operators that reach out of the graph: into Python or into files."""


class Refusal(Exception):  # noqa: N818 - not every refusal is an error of somebody
    """Why a model is not converted: the code, message and help of a Diagnostic."""

    def __init__(self, code: str, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.answer = {"code": code, "message": message, "help": help}


@dataclass
class Loaded:
    """One function, from tensors in the order of `inputs` (name, shape, dtype) to those of `outputs`."""

    function: Callable[..., Sequence[Any]]
    inputs: Sequence[tuple[str, Sequence[int | None] | None, Any]]
    outputs: list[str]
    runtime: str


def load_keras(path: str, trust: bool) -> Loaded:
    """A .keras or .h5 file; one of Keras 2 that Keras 3 cannot read goes to tf_keras where that is there."""
    import keras

    if not trust:
        _refuse_code(path)
    runtime = f"Keras {keras.__version__}"
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=not trust)
    except Exception as failed:
        model, runtime = _load_legacy(path, failed)
    if not getattr(model, "inputs", None):
        raise Refusal(
            "symbolic-shape", "the model has no inputs until it is called", "export it as a SavedModel"
        )
    inputs = [(t.name.split(":")[0], list(t.shape), t.dtype) for t in model.inputs]
    outputs = list(getattr(model, "output_names", None) or [f"output_{i}" for i in range(len(model.outputs))])

    def function(*tensors: Any) -> Sequence[Any]:
        found = model(tensors[0] if len(tensors) == 1 else list(tensors), training=False)
        return _flat(found)

    return Loaded(function, inputs, outputs, runtime)


def _load_legacy(path: str, failed: Exception) -> tuple[Any, str]:
    try:
        import tf_keras
    except ImportError:
        said = str(failed).strip().split("\n")[0]
        raise Refusal(
            "bad-model", f"Keras cannot load the model: {said}", "for Keras 2: pip install tf_keras"
        ) from None
    try:
        return tf_keras.models.load_model(path, compile=False), f"tf_keras {tf_keras.__version__}"
    except Exception:
        said = str(failed).strip().split("\n")[0]
        raise Refusal("bad-model", f"Keras cannot load the model: {said}") from failed


def _refuse_code(path: str) -> None:
    """Lambda layers hold Python code; the configuration says so before anything is loaded."""
    import zipfile

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            text = archive.read("config.json").decode()
    else:
        import h5py

        try:
            with h5py.File(path, "r") as file:
                found = file.attrs.get("model_config")
        except OSError as broken:
            raise Refusal("bad-model", f"the file cannot be read: {broken}") from broken
        if found is None:
            raise Refusal("weights-only", "the file holds weights, but not the network they belong to",
                          "save the whole model: model.save('model.keras')")  # fmt: skip
        text = found.decode() if isinstance(found, bytes) else str(found)
    names = [n for n in _layers(json.loads(text)) if n]
    if names:
        raise Refusal(
            "code-in-model",
            f"the model holds Python code, in its Lambda layer {names[0]!r}",
            "if you trust the file, give --trust",
        )


def _layers(config: Any) -> list[str]:
    """The names of the Lambda layers anywhere in a configuration."""
    if isinstance(config, list):
        return [name for item in config for name in _layers(item)]
    if not isinstance(config, dict):
        return []
    inner = config.get("config")
    own = []
    if config.get("class_name") == "Lambda":
        own = [str(inner.get("name", "lambda")) if isinstance(inner, dict) else "lambda"]
    return own + [name for item in config.values() for name in _layers(item)]


def load_saved_model(path: str, trust: bool) -> Loaded:
    """The serving signature of a SavedModel folder."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    folder = path if os.path.isdir(path) else os.path.dirname(path)
    stored = saved_model_pb2.SavedModel()
    try:
        stored.ParseFromString(Path(folder, "saved_model.pb").read_bytes())
    except Exception as broken:
        raise Refusal("bad-model", f"saved_model.pb is malformed: {broken}") from broken
    for meta in stored.meta_graphs:
        graphs = [meta.graph_def.node, *(f.node_def for f in meta.graph_def.library.function)]
        _refuse_outside((node for graph in graphs for node in graph), trust)
    try:
        model = tf.saved_model.load(folder)
    except Exception as failed:
        raise Refusal("bad-model", f"TensorFlow cannot load the model: {_first(failed)}") from failed
    signatures = getattr(model, "signatures", {})
    if not signatures:
        raise Refusal("bad-model", "the SavedModel has no signature", "save it with signatures=...")
    key = "serving_default" if "serving_default" in signatures else next(iter(signatures))
    chosen = signatures[key]
    specs = chosen.structured_input_signature[1]
    names, outputs = sorted(specs), sorted(chosen.structured_outputs)

    def function(*tensors: Any) -> Sequence[Any]:
        found = chosen(**dict(zip(names, tensors, strict=True)))
        return [found[name] for name in outputs]

    inputs = [(name, _shape(specs[name].shape), specs[name].dtype) for name in names]
    loaded = Loaded(function, inputs, outputs, f"TensorFlow {tf.__version__}")
    loaded.function.keep = model  # type: ignore[attr-defined] # a signature does not hold its variables
    return loaded


def load_frozen_graph(path: str, trust: bool, shapes: dict[str, list[int]]) -> Loaded:
    """A frozen GraphDef: its placeholders (or the tensors named in `shapes`), to what nobody reads."""
    import tensorflow as tf

    graph_def = tf.compat.v1.GraphDef()
    try:
        graph_def.ParseFromString(Path(path).read_bytes())
    except Exception as broken:
        raise Refusal("not-a-model", f"the file is no TensorFlow graph: {broken}") from broken
    _refuse_outside(graph_def.node, trust)
    read = {name.lstrip("^").split(":")[0] for node in graph_def.node for name in node.input}
    fed = {name.split(":")[0] for name in shapes}
    starts = [n.name for n in graph_def.node if n.op in ("Placeholder", "IteratorGetNext") or n.name in fed]
    starts = [name for name in starts if name in fed] if fed else starts
    ends = [n.name for n in graph_def.node if n.name not in read and n.op not in ("NoOp", "Const", "Assert")]
    ends = [name for name in ends if name not in starts]
    if not starts or not ends:
        raise Refusal("bad-model", "the graph has no placeholder to start from, or no end")
    wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph_def, name=""), [])
    feeds = [wrapped.graph.get_tensor_by_name(f"{name}:0") for name in starts]
    fetches = [t for name in ends for t in wrapped.graph.get_operation_by_name(name).outputs]
    pruned = wrapped.prune(feeds, fetches)
    inputs = [(name, _shape(tensor.shape), tensor.dtype) for name, tensor in zip(starts, feeds, strict=True)]
    outputs = [t.name.removesuffix(":0") for t in fetches]
    return Loaded(lambda *tensors: _flat(pruned(*tensors)), inputs, outputs, f"TensorFlow {tf.__version__}")


def _refuse_outside(nodes: Any, trust: bool) -> None:
    found = sorted({node.op for node in nodes if node.op in _OUTSIDE})
    if found and not trust:
        raise Refusal(
            "code-in-model",
            f"the graph reaches out of itself, by {', '.join(found)}",
            "if you trust the file, give --trust",
        )


def _flat(found: Any) -> list[Any]:
    import tensorflow as tf

    return list(tf.nest.flatten(found))


def _shape(shape: Any) -> list[int | None] | None:
    return None if shape.rank is None else list(shape.as_list())


def _first(failed: BaseException) -> str:
    return str(failed).strip().split("\n")[0] or type(failed).__name__


class Session:
    """One model, from its conversion to its runs."""

    def __init__(self, request: dict[str, Any]) -> None:
        import tensorflow as tf

        kind, path, trust = request["kind"], request["source"], request["trust"]
        shapes = request["shapes"]
        if kind == "tf-frozen-graph":
            self.loaded = load_frozen_graph(path, trust, shapes)
        elif kind == "saved-model":
            self.loaded = load_saved_model(path, trust)
        else:
            self.loaded = load_keras(path, trust)
        self.specs = [
            tf.TensorSpec(_static(name, shape, shapes), dtype, name=_plain(name))
            for name, shape, dtype in self.loaded.inputs
        ]
        known = [name for name, _, _ in self.loaded.inputs]
        for name in shapes:
            if name.removesuffix(":0") not in known:
                raise Refusal(
                    "unknown-input", f"the model has no input {name!r}", f"its inputs are: {', '.join(known)}"
                )
        self.function = tf.function(self.loaded.function, input_signature=self.specs)

    def convert(self, path: str) -> dict[str, Any]:
        """Write the ONNX model; names in the order of its inputs and outputs."""
        import tf2onnx

        try:
            made, _ = tf2onnx.convert.from_function(self.function, input_signature=self.specs, opset=OPSET)
        except Exception as failed:
            raise Refusal(
                "conversion-failed", f"tf2onnx cannot convert the model: {_first(failed)}"
            ) from failed
        _spell_erfc(made.graph)
        Path(path).write_bytes(made.SerializeToString())
        return {
            "inputs": {_plain(name): name for name, _, _ in self.loaded.inputs},
            "outputs": self.loaded.outputs,
            "runtime": self.loaded.runtime,
        }

    def run(self, given: str, made: str) -> dict[str, Any]:
        """Run the model on the arrays of one .npz, by input name; write the outputs, by position."""
        import numpy as np
        import tensorflow as tf

        with np.load(given) as archive:
            feed = [
                tf.constant(archive[name], dtype=spec.dtype)
                for (name, _, _), spec in zip(self.loaded.inputs, self.specs, strict=True)
            ]
        found = _flat(self.function(*feed))
        np.savez(made, **{str(i): tensor.numpy() for i, tensor in enumerate(found)})
        return {}


def _plain(name: str) -> str:
    """A name that TensorFlow takes for an argument."""
    return "".join(c if c.isalnum() or c == "_" else "_" for c in name)


def _static(name: str, shape: Sequence[int | None] | None, shapes: dict[str, list[int]]) -> list[int]:
    """The shape given, else the model's own with a batch of one."""
    given = shapes.get(name, shapes.get(f"{name}:0"))
    if given is not None:
        if shape is not None and (
            len(shape) != len(given)
            or any(a is not None and a != b for a, b in zip(shape, given, strict=True))
        ):
            raise Refusal("input-shape", f"input {name!r} has shape {shape}, not {list(given)}")
        return list(given)
    if shape is None:
        raise Refusal(
            "symbolic-shape", f"the shape of input {name!r} is not known", f"give it: --input {name}:1x..."
        )
    fixed = [1 if d is None and i == 0 else d for i, d in enumerate(shape)]
    if any(d is None for d in fixed):
        example = "x".join(str(d or 224) for d in fixed)
        raise Refusal("symbolic-shape", f"the shape of input {name!r} is not fixed: {shape}",
                      f"give it, for example: --input {name}:{example}")  # fmt: skip
    return [int(d) for d in fixed if d is not None]


def _spell_erfc(graph: Any) -> None:
    """tf2onnx leaves TensorFlow's Erfc as it is; ONNX has Erf only: erfc(x) = 1 - erf(x)."""
    from onnx import TensorProto, helper

    nodes = list(graph.node)
    del graph.node[:]
    for i, node in enumerate(nodes):
        if node.op_type != "Erfc":
            graph.node.append(node)
            continue
        one, erf = f"{node.output[0]}__one_{i}", f"{node.output[0]}__erf_{i}"
        graph.initializer.append(helper.make_tensor(one, TensorProto.FLOAT, [], [1.0]))
        graph.node.append(helper.make_node("Erf", list(node.input), [erf], name=f"{node.name}/erf"))
        graph.node.append(helper.make_node("Sub", [one, erf], list(node.output), name=node.name))


def main() -> None:
    """Answer requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    session = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "convert":
                session = Session(request)
                answer = session.convert(request["out"])
            else:
                assert session is not None
                answer = session.run(request["in"], request["out"])
        except Refusal as refused:
            answer = {"refused": refused.answer}
        except Exception as failed:
            traceback.print_exc()
            answer = {"failed": _first(failed)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
