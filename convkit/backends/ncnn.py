"""Tencent's ncnn: pnnx converts the ONNX model, the ncnn package runs what came of it on the CPU."""

from __future__ import annotations

from convkit.backends.base import Backend, Built, Figure, Placed, Work, load_arrays, save_arrays
from convkit.backends.toolchains import Toolchain
from convkit.dialects.onnx.write import save_onnx
from convkit.ir.facts import shape_of

_OPSET = 20  # the newest that pnnx reads


class Ncnn(Backend):
    """`.param` and `.bin` for ncnn, which runs all that pnnx converts; by Vulkan it runs the layers that have
    a kernel there."""

    name = "ncnn"
    toolchain = Toolchain(
        "ncnn", ("ncnn==1.0.20261020", "numpy==1.26.4"), bare=("pnnx==20261020",), modules=("ncnn",)
    )

    def build(self, work: Work) -> Built:
        outputs = work.model.graph.outputs
        inputs = work.model.graph.inputs
        save_onnx(work.model, work.scratch / "model.onnx", opset=_OPSET)
        save_arrays(work.scratch / "inputs.npz", list(work.inputs.values()))
        reply = self.call(
            work,
            "compile",
            {
                "model": "model.onnx",
                "inputs": len(inputs),
                "outputs": [list(shape_of(v)) for v in outputs],
                "fp16": work.precision == "fp16",
                "arrays": "inputs.npz" if work.inputs else None,
            },
        )
        files = {f"{work.stem}.ncnn.{kind}": work.scratch / f"model.ncnn.{kind}" for kind in ("param", "bin")}
        found = load_arrays(work.scratch / "outputs.npz") if work.inputs else []
        return Built(
            files=files,
            tool=reply["tool"],
            runtime=reply["runtime"],
            placement=_placement(work, reply["without_vulkan"]),
            outputs={v.name or "": a for v, a in zip(outputs, found)} or "the artifact was not run",
            figures=(Figure("layers", reply["layers"]),),
            commands=(f'net.load_param("{work.stem}.ncnn.param"); net.load_model("{work.stem}.ncnn.bin");',),
        )


def _placement(work: Work, without_vulkan: list[str]) -> list[Placed] | str:
    """All on the processor; on a GPU all or, since pnnx merges operators into layers, nobody knows which."""
    if without_vulkan and "ncnn-vulkan" in work.target.lineage:
        lacking = ", ".join(without_vulkan)
        return f"no Vulkan kernel for layers {lacking}, and pnnx does not say what they were made of"
    return [Placed(True)] * len(work.graph.ops)


BACKEND = Ncnn()
