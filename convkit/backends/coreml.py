"""Apple's Core ML: an ML program made by coremltools' builder, reloaded and evaluated away from macOS."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from convkit.backends.base import Backend, Built, Figure, Option, Work, load_arrays, save_arrays
from convkit.backends.toolchains import Toolchain
from convkit.dialects.onnx.write import to_onnx
from convkit.dialects.resampling import axes_of, matrix
from convkit.ir.facts import attr, dtype_of, shape_of

_OPSET = 20


class CoreMl(Backend):
    """An `.mlpackage`; which unit runs an operator is decided on the device, by rules that are not public."""

    name = "coreml"
    toolchain = Toolchain(
        "coreml", ("coremltools==9.0", "numpy==2.3.5", "onnx==1.23.2"), modules=("coremltools", "onnx")
    )
    options: ClassVar = {"ios": Option("the oldest iOS that loads it", "16", ("16", "17", "18"))}

    def build(self, work: Work) -> Built:
        proto = to_onnx(work.model, opset=_OPSET)
        (work.scratch / "model.onnx").write_bytes(proto.SerializeToString())
        save_arrays(work.scratch / "inputs.npz", list(work.inputs.values()))
        lowered = ir.from_proto(proto).graph
        request = {
            "model": "model.onnx",
            "resize": {node.outputs[0].name: resizing(node) for node in lowered if node.op_type == "Resize"},
            "ios": work.settings["ios"],
            "precision": work.precision,
            "arrays": "inputs.npz" if work.inputs else None,
        }
        reply = self.call(work, "compile", request)
        package = work.scratch / "model.mlpackage"
        parts = sorted(path for path in package.rglob("*") if path.is_file())
        files: dict[str, bytes | Path] = {
            f"{work.stem}.mlpackage/{path.relative_to(package).as_posix()}": path for path in parts
        }
        values = work.model.graph.outputs
        outputs: dict[str, np.ndarray] | str = "the artifact was not run"
        if reply["missing"]:
            outputs = f"not run: coremltools cannot evaluate {reply['missing']}, and Core ML is on macOS only"
        elif work.inputs:
            found = load_arrays(work.scratch / "outputs.npz")
            outputs = {
                v.name or "": a.astype(dtype_of(v).numpy()).reshape(shape_of(v))
                for v, a in zip(values, found)
            }
        renamed = zip([*work.model.graph.inputs, *values], [*reply["inputs"], *reply["outputs"]], strict=True)
        return Built(
            files=files,
            tool=reply["tool"],
            runtime=f"{reply['tool']} evaluating the reloaded program, NumPy for {_listed(reply)}",
            placement="Core ML chooses the unit on the device",
            outputs=outputs,
            figures=(Figure("operators", reply["operators"]),),
            commands=(f"xcrun coremlcompiler compile {work.stem}.mlpackage .",),
            notes=(
                "not run by Core ML, which is on macOS only",
                *(f"{v.name} is called {name}" for v, name in renamed if v.name != name),
            ),
        )


def _listed(reply: dict[str, Any]) -> str:
    return ", ".join(reply.get("own", ())) or "nothing"


def resizing(node: ir.Node) -> dict[str, Any]:
    """How Core ML does a Resize: by an operator of whole factors, else by a matrix along each axis."""
    axes, mode = axes_of(node), attr(node, "mode", "nearest")
    spread = [matrix(axis, node, mode) for axis in axes]
    still = [m.shape[0] == m.shape[1] and np.array_equal(m, np.eye(len(m))) for m in spread]
    if len(axes) == 4 and still[0] and still[1]:
        factors = [axis.out // axis.size for axis in axes[2:]]
        if all(axis.out % axis.size == 0 for axis in axes[2:]):
            repeated = [np.repeat(np.eye(a.size), f, axis=0) for a, f in zip(axes[2:], factors)]
            if all(np.array_equal(m, r) for m, r in zip(spread[2:], repeated)):
                return {"operator": "nearest", "factors": factors}
            if (
                mode == "linear"
                and attr(node, "coordinate_transformation_mode", "half_pixel") == "half_pixel"
            ):
                return {"operator": "bilinear", "factors": factors}
    moved = [at for at, same in enumerate(still) if not same]
    return {"operator": "matrices", "axes": moved, "matrices": [spread[at].tolist() for at in moved]}


BACKEND = CoreMl()
