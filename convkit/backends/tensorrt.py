"""NVIDIA's TensorRT: the ONNX model that its parser takes, and what builds the engine on the device.

The packages on PyPI fetch TensorRT itself from NVIDIA's own index, so nothing is installed for it here. Where
Python has `tensorrt` and there is a GPU, the engine is built by the very script that is written.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

from convkit.backends.base import Backend, Built, Option, Work
from convkit.diagnostics import ExitCode, error
from convkit.dialects.onnx.narrow import narrow_int64
from convkit.dialects.onnx.write import to_onnx

_NEWEST = 20
_NEWEST_OF = {"tensorrt-8": 13}  # onnx-tensorrt, docs/operators.md of 10.1-GA and 8.4-GA
_SECONDS = 3600
_SCRIPT = Path(__file__).parent / "drivers" / "tensorrt_build.py"


class TensorRt(Backend):
    """`.onnx` and a build script; an engine where TensorRT and a GPU are at hand."""

    name = "tensorrt"
    options: ClassVar = {
        "compute": Option("what the engine may compute in", "fp16", ("fp16", "fp32")),
        "engine": Option("whether to build the engine here", "auto", ("auto", "no")),
        "workspace": Option("megabytes that a kernel may use while it runs", "1024"),
    }

    def build(self, work: Work) -> Built:
        old = next((t for t in work.target.lineage if t in _NEWEST_OF), None)
        proto = to_onnx(work.model, opset=_NEWEST_OF.get(old or "", _NEWEST))
        narrowed = narrow_int64(proto) if old else []
        source = proto.SerializeToString()
        stem, flags = work.stem, _flags(work)
        files: dict[str, bytes | Path] = {
            f"{stem}.onnx": source,
            f"{stem}.build.py": _SCRIPT.read_bytes(),
        }
        tool = "convkit, for TensorRT"
        if work.settings["engine"] == "auto" and at_hand():
            tool, engine = _built(work, source, flags)
            files = {f"{stem}.engine": engine, **files}
        words = " ".join(flags)
        return Built(
            files=files,
            tool=tool,
            placement="TensorRT takes a whole model or none; its own parser was not asked",
            outputs=_run(source, work, narrowed) if work.inputs else "the artifact was not run",
            runtime="onnxruntime, the ONNX file that is written",
            commands=(
                f"trtexec --onnx={stem}.onnx --saveEngine={stem}.engine {words}".rstrip(),
                f"python {stem}.build.py {stem}.onnx {stem}.engine {words}".rstrip(),
            ),
            notes=tuple(
                f"input {name} is int32 in the file: this TensorRT has no int64" for name in narrowed
            ),
        )


def _flags(work: Work) -> tuple[str, ...]:
    """What trtexec and the build script are told."""
    try:
        megabytes = int(work.settings["workspace"])
    except ValueError:
        raise error("backend-option", f"option workspace cannot be {work.settings['workspace']!r}") from None
    flags = ["--fp16"] if work.settings["compute"] == "fp16" or work.precision == "fp16" else []
    flags += ["--int8"] if work.scheme is not None else []
    old = "tensorrt-8" in work.target.lineage
    # 8.2, the Jetson Nano's, knows --workspace only; 10 knows --memPoolSize only.
    return (*flags, f"--workspace={megabytes}" if old else f"--memPoolSize=workspace:{megabytes}")


def at_hand() -> bool:
    """Whether TensorRT and a GPU to build for are here."""
    return find_spec("tensorrt") is not None and any(Path("/dev").glob("nvidia[0-9]*"))


def _built(work: Work, source: bytes, flags: tuple[str, ...]) -> tuple[str, Path]:
    """The version of TensorRT, and the engine; raises ConvkitError with the end of what it said."""
    model, engine = work.scratch / "model.onnx", work.scratch / "model.engine"
    model.write_bytes(source)
    command = [sys.executable, str(_SCRIPT), str(model), str(engine), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    work.log.write_text(done.stdout + done.stderr)
    if done.returncode or not engine.exists():
        last = (done.stdout + done.stderr).splitlines()[-12:]
        message = f"TensorRT built no engine; it ended with code {done.returncode}"
        raise error("toolchain-failed", message, notes=tuple(last), exit_code=ExitCode.TOOLCHAIN)
    return done.stdout.splitlines()[0], engine


def _run(source: bytes, work: Work, narrowed: list[str]) -> dict[str, np.ndarray]:
    """What the written file computes in onnxruntime."""
    from convkit.verify.runners import OnnxRuntime

    feed = {
        name: array.astype(np.int32) if name in narrowed else array for name, array in work.inputs.items()
    }
    return OnnxRuntime(source).run(feed)


BACKEND = TensorRt()
