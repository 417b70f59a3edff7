"""What the lowerings to an ML program share: values by ONNX name, attributes, and the registry."""

import re

import numpy as np
import onnx
from _protocol import Refused

LOWERINGS = {}


def lowers(*names):
    """Decorator: the function takes (net, node, attributes) and returns the node's value or values."""

    def keep(function):
        LOWERINGS.update(dict.fromkeys(names, function))
        return function

    return keep


def narrow(array):
    """An array in a type that ML programs compute in: float32, int32, bool."""
    array = np.asarray(array)
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    if array.dtype.kind in "iu":
        # The ends of int64 stand for "to the end" in ONNX; nothing else of that size is an index.
        return np.clip(array, -(2**31) + 1, 2**31 - 1).astype(np.int32)
    return array


def clean(names):
    """Identifiers for these names, all different."""
    found = {}
    for name in names:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        plain = plain if plain[:1].isalpha() else f"v_{plain}"
        number, unique = 1, plain
        while unique in found.values():
            number, unique = number + 1, f"{plain}_{number}"
        found[name] = unique
    return found


class Net:
    """Values by ONNX name: variables of the builder, or arrays. `resize` says how each Resize is done."""

    def __init__(self, model, resize):
        self.model, self.resize = onnx.load(model), resize
        stored = self.model.graph.initializer
        self.constants = {t.name: narrow(onnx.numpy_helper.to_array(t)) for t in stored}
        self.values = dict(self.constants)
        graph = self.model.graph
        typed = [*graph.input, *graph.value_info, *graph.output]
        self.shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in typed}

    def shape(self, name):
        """The static shape of a value."""
        return self.shapes[name]

    def value(self, node, index):
        """Input `index`, None where it is left out."""
        name = node.input[index] if index < len(node.input) else ""
        return self.values[name] if name else None

    def constant(self, node, index):
        """A constant input as an array, None where it is left out; Refused where it is computed."""
        name = node.input[index] if index < len(node.input) else ""
        if name and name not in self.constants:
            raise Refused(f"{node.op_type} {node.output[0]!r}: input {index} is computed")
        return self.constants[name] if name else None

    def ints(self, node, index):
        """A constant list of integers, None where it is left out."""
        found = self.constant(node, index)
        return None if found is None else [int(i) for i in found.reshape(-1)]

    def lower(self, node):
        """Bind the node's outputs."""
        where = f"{node.op_type} {node.output[0]!r}"
        if node.domain or node.op_type not in LOWERINGS:
            raise Refused(f"there is no lowering to an ML program for {where}")
        found = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in found.items()}
        try:
            made = LOWERINGS[node.op_type](self, node, attributes)
        except (ValueError, TypeError, NotImplementedError) as problem:
            raise Refused(f"{where}: {problem}") from problem
        for name, value in zip(node.output, made if isinstance(made, (list, tuple)) else [made]):
            self.values[name] = value
