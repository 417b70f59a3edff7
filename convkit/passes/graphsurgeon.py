"""Run a user's onnx-graphsurgeon function as a pass (extra `[graphsurgeon]`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from convkit.diagnostics import ExitCode, error
from convkit.ir.normal import normalize
from convkit.ir.origin import Origin, origin_of, set_origin
from convkit.passes.custom import user_code


@dataclass(frozen=True)
class GraphSurgeonPass:
    """A pass made of `function`, which takes an `onnx_graphsurgeon.Graph` and changes it in place or
    returns another one.

    The model is handed over as a copy and comes back to normal form afterwards. Inputs and outputs must
    keep their names: the result is verified against the imported model. A node that keeps its name
    keeps its origin. Raises ConvkitError: "missing-extra" without onnx-graphsurgeon, "user-code-failed"
    where the function raises or leaves something that is no model.
    """

    function: Callable[[Any], Any]

    @property
    def name(self) -> str:
        """The function's name, as the command line and reports call the pass."""
        return getattr(self.function, "__name__", "graphsurgeon").replace("_", "-")

    def run(self, model: ir.Model) -> bool:
        """Apply the function to `model`; True, as it cannot be known to have changed nothing."""
        changed = self._changed(model)
        before = [[v.name for v in side] for side in (model.graph.inputs, model.graph.outputs)]
        after = [[v.name for v in side] for side in (changed.graph.inputs, changed.graph.outputs)]
        if before != after:
            raise error(
                "graphsurgeon-interface",
                f"pass {self.name!r} changed the model's inputs or outputs from {before} to {after}",
                help="change the interface before compiling, so that the result can be verified",
            )
        origins = {node.name: origin_of(node) for node in model.graph}
        for node in changed.graph:
            made = Origin(nodes=(node.name,) if node.name else ()).through(self.name)
            set_origin(node, origins.get(node.name, made))
        normalize(changed)
        model.graph = changed.graph
        return True

    def _changed(self, model: ir.Model) -> ir.Model:
        try:
            import onnx_graphsurgeon as gs
        except ImportError as missing:
            raise error(
                "missing-extra",
                f"pass {self.name!r} needs onnx-graphsurgeon",
                help="pip install 'convkit[graphsurgeon]'",
                exit_code=ExitCode.TOOLCHAIN,
            ) from missing
        with user_code(f"pass {self.name!r}"):
            surgeon = gs.import_onnx(ir.to_proto(model))
            answered = self.function(surgeon)
            graph = surgeon if answered is None else answered
            return ir.from_proto(gs.export_onnx(graph.cleanup().toposort()))


def graphsurgeon_pass(function: Callable[[Any], Any]) -> GraphSurgeonPass:
    """Decorator: `@graphsurgeon_pass def my_edit(graph): ...` makes a pass of a function."""
    return GraphSurgeonPass(function)
