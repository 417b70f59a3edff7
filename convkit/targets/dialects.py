"""What the rule language knows of a dialect: its operators, operands, options, axes and words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from convkit.dialects.caffe import schema as caffe
from convkit.dialects.onnx import schema as onnx
from convkit.dialects.tflite import roles, schema
from convkit.dialects.tflite.graph import Op, Tensor
from convkit.targets.vocabulary import Predicate, vocabulary


@dataclass(frozen=True)
class Dialect:
    """Operators are judged as `Op`s; these functions say what their parts are called."""

    name: str
    operators: Callable[[], Collection[str]]
    roles: Callable[[str], tuple[str, ...]]
    tensors_of_role: Callable[[Op, str], list[Tensor | None] | None]
    axes: tuple[str, ...]
    axis_size: Callable[[Op, str, Tensor, str], int | None]
    default_options: Callable[[str], Mapping[str, Any]]
    option_enum: Callable[[str], str | None]
    enum_values: Callable[[str], Mapping[str, int]]

    @property
    def predicates(self) -> Mapping[str, Predicate]:
        """The words that a rule for this dialect may use."""
        return vocabulary(self.name)


DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            "tflite",
            schema.operator_codes,
            roles.input_roles,
            roles.tensors_of_role,
            roles.AXES,
            roles.axis_size,
            schema.default_options,
            schema.option_enum,
            schema.enum_values,
        ),
        Dialect(
            "onnx",
            onnx.operators,
            onnx.roles,
            onnx.tensors_of_role,
            onnx.AXES,
            onnx.axis_size,
            onnx.default_options,
            onnx.option_enum,
            onnx.enum_values,
        ),
        Dialect(
            "caffe",
            caffe.operators,
            caffe.roles,
            caffe.tensors_of_role,
            caffe.AXES,
            caffe.axis_size,
            caffe.default_options,
            caffe.option_enum,
            caffe.enum_values,
        ),
    )
}
