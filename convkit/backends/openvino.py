"""Intel's OpenVINO: the intermediate representation that its runtimes load, made by its own ONNX reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convkit.backends.base import Backend, Built, Placed, Work, load_arrays, save_arrays
from convkit.backends.toolchains import Toolchain
from convkit.dialects.onnx.write import save_onnx

_OPSET = 24


class OpenVino(Backend):
    """`.xml` and `.bin`. Placement is the CPU plugin's: that an operator can be read and has a kernel on an
    Intel CPU. Neither GPU nor NPU are asked: the package holds no compiler for the NPU, and its GPU plugin
    needs an OpenCL device."""

    name = "openvino"
    toolchain = Toolchain("openvino", ("openvino==2026.4.1", "numpy==2.4.6"), modules=("openvino",))

    def build(self, work: Work) -> Built:
        arrays = "inputs.npz" if work.inputs else None
        if arrays:
            save_arrays(work.scratch / arrays, list(work.inputs.values()))
        reply = self._ask(
            work,
            "compile",
            {
                "fp16": work.precision == "fp16",
                "inputs": [v.name for v in work.model.graph.inputs],
                "arrays": arrays,
            },
        )
        outputs = zip(work.model.graph.outputs, load_arrays(work.scratch / "outputs.npz")) if arrays else ()
        return Built(
            files={f"{work.stem}.{kind}": work.scratch / f"model.{kind}" for kind in ("xml", "bin")},
            tool=f"openvino {reply['version']}",
            runtime=f"OpenVINO {reply['version']}, CPU plugin",
            placement=_placed(work, reply),
            outputs={v.name or "": array for v, array in outputs} or "the artifact was not run",
            commands=(f"benchmark_app -m {work.stem}.xml -d NPU  # or GPU, CPU",),
            notes=(
                "placed by the CPU plugin; whether a GPU or an NPU takes the same was not asked: the package "
                "has no NPU compiler, which comes with the NPU's driver",
            ),
        )

    def place(self, work: Work) -> Sequence[Placed] | str:
        return _placed(work, self._ask(work, "place", {}))

    def _ask(self, work: Work, command: str, request: Mapping[str, Any]) -> dict[str, Any]:
        save_onnx(work.model, work.scratch / "model.onnx", opset=_OPSET)
        return self.call(work, command, {"model": "model.onnx", **request})


def _placed(work: Work, reply: Mapping[str, Any]) -> list[Placed]:
    left = reply["left"]
    asked = True if reply.get("asked", True) else None
    words = ["; ".join(left[t.name] for t in op.outputs if t.name in left) for op in work.graph.ops]
    return [Placed(False, why) if why else Placed(asked) for why in words]


BACKEND = OpenVino()
