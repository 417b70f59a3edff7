"""Alibaba's MNN: its converter makes `.mnn` of the ONNX model, the package runs it on the CPU."""

from __future__ import annotations

import math
from typing import ClassVar

from convkit.backends.base import Backend, Built, Figure, Option, Work, load_arrays, save_arrays
from convkit.backends.toolchains import Toolchain
from convkit.dialects.onnx.write import save_onnx
from convkit.ir.facts import dtype_of, shape_of

_OPSET = 20


class Mnn(Backend):
    """One `.mnn` for every backend of MNN's; which of them runs a layer is decided on the device."""

    name = "mnn"
    toolchain = Toolchain("mnn", ("MNN==3.6.1", "numpy==2.3.5"), modules=("_tools", "MNN"))
    options: ClassVar = {"weight-bits": Option("bits of the stored weights", "32", ("32", "8", "4"))}

    def build(self, work: Work) -> Built:
        save_onnx(work.model, work.scratch / "model.onnx", opset=_OPSET)
        save_arrays(work.scratch / "inputs.npz", list(work.inputs.values()))
        outputs = work.model.graph.outputs
        bits = work.settings["weight-bits"]
        flags = ["--fp16"] if work.precision == "fp16" else []
        flags += ["--weightQuantBits", bits] if bits != "32" else []
        reply = self.call(
            work,
            "compile",
            {
                "format": "ONNX",
                "model": ["model.onnx"],
                "flags": flags,
                "inputs": [value.name for value in work.model.graph.inputs],
                "outputs": [value.name for value in outputs],
                "shapes": [list(shape_of(value)) for value in outputs],
                "arrays": "inputs.npz" if work.inputs else None,
            },
        )
        found = load_arrays(work.scratch / "outputs.npz") if work.inputs else []
        arrays = {
            value.name or "": array.astype(dtype_of(value).numpy())
            for value, array in zip(outputs, found, strict=bool(work.inputs))
        }
        artifact = work.scratch / "model.mnn"
        return Built(
            files={f"{work.stem}.mnn": artifact},
            tool=reply["tool"],
            runtime=reply["runtime"],
            placement="MNN's backends say on the device which layers they take",
            outputs=arrays or "the artifact was not run",
            tolerance=math.inf if bits != "32" else None,
            figures=(Figure("size", artifact.stat().st_size, "B"),),
            commands=(f'MNN::Interpreter::createFromFile("{work.stem}.mnn")',),
        )


BACKEND = Mnn()
