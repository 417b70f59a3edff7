"""HiSilicon's NNIE: a Caffe 1.0 network, which the SDK's nnie_mapper turns into a .wk file.

The configuration's keys are those of the HiSVP development guide, section 3, as public configurations and
handbooks of the NNIE tool chain quote them.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from convkit.backends.base import Backend, Built, Option, Work, load_arrays, save_arrays
from convkit.backends.toolchains import Toolchain
from convkit.diagnostics import error
from convkit.dialects.caffe import refuse_custom, write
from convkit.dialects.tflite.graph import Graph, Tensor
from convkit.ir.facts import shape_of

Outputs = dict[str, np.ndarray]

_MODES = {"bandwidth": 0, "precision": 1}
_SMALLEST_SCALE = 1 / 4096


class HisiliconNnie(Backend):
    """`.prototxt`, `.caffemodel` and `.cfg`; OpenCV reads the pair back and runs it where it is installed."""

    name = "hisilicon-nnie"
    toolchain = Toolchain("caffe", ("opencv-python-headless==4.14.0.94", "numpy==2.3.5"), modules=("cv2",))
    checks_only = True
    options: ClassVar = {
        "mean": Option("what the chip takes from each channel of an image: one number, or one for each"),
        "scale": Option("what the chip multiplies an image with after that, above 1/4096"),
        "order": Option("the order of an image's channels as the network reads them", "BGR", ("BGR", "RGB")),
        "mode": Option("least memory traffic (8 bit), or most precise (16 bit)", "bandwidth", tuple(_MODES)),
        "mapper": Option("the mapper of the chip's SDK: nnie_mapper_11 or _12", "nnie_mapper_12"),
    }

    def build(self, work: Work) -> Built:
        graph = work.graph
        refuse_custom(graph)
        prototxt, caffemodel = write(graph)
        files: dict[str, bytes | Path] = {
            f"{work.stem}.prototxt": prototxt.encode(),
            f"{work.stem}.caffemodel": caffemodel,
        }
        means = _numbers(work.settings["mean"], "mean")
        for image in filter(_is_image, graph.inputs):
            if len(means) > 1 and len(means) != image.shape[1]:
                raise error(
                    "backend-option", f"{len(means)} means for {image.shape[1]} channels of {image.name!r}"
                )
        files[f"{work.stem}.cfg"] = configuration(work, graph, means).encode()
        if means:
            count = next((t.shape[1] for t in graph.inputs if _is_image(t)), len(means))
            lines = means * count if len(means) == 1 else means
            files[f"{work.stem}.mean.txt"] = "".join(f"{mean:g}\n" for mean in lines).encode()
        outputs, runtime = self._read_back(work, prototxt, caffemodel)
        return Built(
            files=files,
            tool="convkit, for nnie_mapper",
            runtime=runtime,
            placement="nnie_mapper is in no package registry; it comes with the chip's SDK",
            outputs=outputs,
            commands=(f"{work.settings['mapper']} {work.stem}.cfg",),
            notes=tuple(_notes(work, graph)),
        )

    def _read_back(
        self, work: Work, prototxt: str, caffemodel: bytes
    ) -> tuple[dict[str, np.ndarray] | str, str]:
        """What an independent reader of the pair computes, and who that is."""
        if not work.inputs:
            return "the artifact was not run", ""
        if self.toolchain.find() is None:
            return f"not read back: convkit toolchain install {self.toolchain.name}", ""
        (work.scratch / "net.prototxt").write_text(prototxt)
        (work.scratch / "net.caffemodel").write_bytes(caffemodel)
        save_arrays(
            work.scratch / "inputs.npz", [np.asarray(array, np.float32) for array in work.inputs.values()]
        )
        # A layer goes by the name of its first top.
        tops = {id(t): (op.outputs[0].name, n) for op in work.graph.ops for n, t in enumerate(op.outputs)}
        request = {
            "prototxt": "net.prototxt",
            "caffemodel": "net.caffemodel",
            "inputs": [tensor.name for tensor in work.graph.inputs],
            "outputs": [tops[id(tensor)] for tensor in work.graph.outputs],
            "arrays": "inputs.npz",
        }
        runtime = self.call(work, "run", request)["runtime"]
        values = work.model.graph.outputs
        found = load_arrays(work.scratch / "outputs.npz")
        # A net of OpenCV's has no values of rank 0 or 1.
        return {v.name or "": a.reshape(shape_of(v)) for v, a in zip(values, found, strict=True)}, str(
            runtime
        )


def _is_image(tensor: Tensor) -> bool:
    return tensor.rank == 4 and tensor.shape[1] in (1, 3)


def _numbers(text: str, what: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise error(
            "backend-option", f"option {what} cannot be {text!r}", help="numbers, with commas"
        ) from None


def configuration(work: Work, graph: Graph, means: list[float]) -> str:
    """The mapper's .cfg; images (1 or 3 channels) come as bytes, every other input as a feature map."""
    stem, scales = work.stem, _numbers(work.settings["scale"], "scale")
    if len(scales) > 1 or any(scale <= _SMALLEST_SCALE for scale in scales):
        raise error(
            "backend-option", f"option scale is one number above 1/4096, not {work.settings['scale']!r}"
        )
    if len(graph.inputs) > 16 or len(graph.outputs) > 16:
        raise error("too-many-values", "NNIE takes 16 inputs and 16 outputs at most")
    # 0: as it is, 2: less the means, 3: times the scale, 5: both
    norm = {(False, False): 0, (True, False): 2, (False, True): 3, (True, True): 5}[bool(means), bool(scales)]
    lines = [
        ("prototxt_file", f"./{stem}.prototxt"),
        ("caffemodel_file", f"./{stem}.caffemodel"),
        ("net_type", 0),
        ("is_simulation", 0),
        ("batch_num", 1),
        ("sparse_rate", 0),
        ("compile_mode", _MODES[work.settings["mode"]]),
        ("log_level", 0),
        ("internal_stride", 16),
        ("instruction_name", f"./{stem}"),
        ("RGB_order", work.settings["order"]),
    ]
    if scales:
        lines.append(("data_scale", f"{scales[0]:.9g}"))
    for tensor in graph.inputs:
        image = _is_image(tensor)
        mean = f"./{stem}.mean.txt" if image and means else "null"
        lines += [
            ("image_list", f"./{tensor.name}.list.txt"),
            ("image_type", int(image)),
            ("norm_type", norm if image else 0),
            ("mean_file", mean),
        ]
    return "".join(f"[{key}] {value}\n" for key, value in lines)


def _notes(work: Work, graph: Graph) -> list[str]:
    notes = [
        f"confidence {work.target.confidence}: what NNIE takes is known from public quotations of its guide"
    ]
    for tensor in graph.inputs:
        shape = "x".join(map(str, tensor.shape[1:]))
        what = "the path of an image" if _is_image(tensor) else f"the {shape} numbers of a sample"
        notes.append(f"{tensor.name}.list.txt is yours to write: 20 to 50 lines, each {what}")
    pairs = [
        *zip(graph.signature_inputs, graph.inputs, strict=True),
        *zip(graph.signature_outputs, graph.outputs, strict=True),
    ]
    notes += [f"{name} is the blob {tensor.name}" for name, tensor in pairs if name != tensor.name]
    return notes


BACKEND = HisiliconNnie()
