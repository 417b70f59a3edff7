"""TensorFlow and Keras in: SavedModel, .keras, .h5 and frozen graphs, by tf2onnx in a process of its own.

TensorFlow never shares a process with convkit: it may live in another environment, whose interpreter
CONVKIT_TF_PYTHON names, so torch and tensorflow are never needed together.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.diagnostics import ConvkitError, ExitCode, Location, error
from convkit.frontends import tensorflow_child
from convkit.frontends.formats import Format
from convkit.frontends.imported import Imported, ImportOptions
from convkit.frontends.onnx import load_onnx
from convkit.ir.origin import annotate_origins, origin_of, set_origin
from convkit.verify.runners import RunError

CONVERT_SECONDS = 900
"""How long TensorFlow may take for one model."""

PYTHON_VARIABLE = "CONVKIT_TF_PYTHON"


def load_tensorflow(source: Any, kind: Format, options: ImportOptions) -> Imported:
    """Import a model of TensorFlow or Keras; the framework itself is the reference.

    A batch that the model leaves open is one, unless `options.inputs` says otherwise; other open dimensions
    must be given. Raises ConvkitError "missing-extra" where no interpreter with TensorFlow is known, and
    "code-in-model" for what would run code of the file's.
    """
    folder = tempfile.TemporaryDirectory(prefix="convkit-")
    if not isinstance(source, (str, os.PathLike)):
        path = Path(folder.name, "model.keras" if kind is Format.KERAS else "model.h5")
        if isinstance(source, bytes):
            path.write_bytes(source)
        else:
            source.save(path)
    else:
        path = _with_suffix(Path(source), kind, Path(folder.name))
    process = _Process(folder)
    made = Path(folder.name, "model.onnx")
    shapes = {name: list(shape) for name, shape in options.inputs.items()}
    request = {"do": "convert", "kind": kind.value, "source": str(path.resolve()), "shapes": shapes,
               "trust": options.trust, "out": str(made)}  # fmt: skip
    answer = process.ask(request)
    if "refused" in answer:
        said = answer["refused"]
        raise error(said["code"], said["message"], help=said["help"], location=_where(source))
    if "failed" in answer:
        raise error("conversion-failed", f"TensorFlow fails: {answer['failed']}", location=_where(source))
    raw = load_onnx(made.read_bytes())
    _rename(raw, answer)
    _name_layers(raw)
    return Imported(load_onnx(raw, None, options.freeze), kind.value, _Framework(process, answer, raw))


def _where(source: Any) -> Location | None:
    return Location(os.fspath(source)) if isinstance(source, (str, os.PathLike)) else None


def _with_suffix(path: Path, kind: Format, folder: Path) -> Path:
    """Keras goes by the suffix; a file of another is seen through a link that has the right one."""
    wanted = {Format.KERAS: (".keras",), Format.KERAS_H5: (".h5", ".hdf5")}.get(kind)
    if wanted is None or path.suffix in wanted:
        return path
    link = folder / f"model{wanted[0]}"
    link.symlink_to(path.resolve())
    return link


def _rename(model: ir.Model, answer: Mapping[str, Any]) -> None:
    """Inputs and outputs by the framework's own names."""
    for value in model.graph.inputs:
        plain = (value.name or "").removesuffix(":0")
        value.name = answer["inputs"].get(plain, plain)
    taken = {value.name for value in model.graph.inputs}
    for value, name in zip(model.graph.outputs, answer["outputs"], strict=True):
        value.name = name if name not in taken else f"{name}_output"
        taken.add(value.name)


def _name_layers(model: ir.Model) -> None:
    """The layer of each node: the path in its name, or in its output's where tf2onnx has joined two nodes."""
    annotate_origins(model)
    for node in model.graph.all_nodes():
        origin = origin_of(node)
        names = (*origin.nodes, *(value.name or "" for value in node.outputs))
        layers = tuple(_layer(name) for name in names if "/" in name)[:1]
        set_origin(node, type(origin)(origin.nodes, layers, origin.sources, origin.rewrites))


def _layer(name: str) -> str:
    parts = [
        p for p in name.split("/")[:-1] if not p.startswith(("StatefulPartitionedCall", "PartitionedCall"))
    ]
    return "/".join(parts) or name


class _Framework:
    """The model in TensorFlow or Keras itself, in the process that converted it."""

    def __init__(self, process: _Process, answer: Mapping[str, Any], model: ir.Model) -> None:
        self._process = process
        self._names = list(answer["inputs"].values())
        self._outputs = [value.name or "" for value in model.graph.outputs]
        self.description = str(answer["runtime"])

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by the imported model's names."""
        folder = Path(self._process.folder.name)
        given, made = folder / "in.npz", folder / "out.npz"
        np.savez(given, **{name: inputs[name] for name in self._names if name in inputs})  # type: ignore[arg-type]
        answer = self._process.ask({"do": "run", "in": str(given), "out": str(made)})
        if "failed" in answer or "refused" in answer:
            raise RunError(str(answer))
        with np.load(made) as archive:
            arrays = [archive[str(i)] for i in range(len(archive.files))]
        return dict(zip(self._outputs, arrays, strict=True))


class _Process:
    """The interpreter that holds TensorFlow; it ends with this object."""

    def __init__(self, folder: tempfile.TemporaryDirectory[str]) -> None:
        self.folder = folder
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        self._log = Path(folder.name, "log")
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                [interpreter(), "-I", str(Path(tensorflow_child.__file__))],  # -I: not its neighbours
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
            )
        weakref.finalize(self, _end, self._child)

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One request, one answer; what goes wrong with the process itself is an answer too."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps(request) + "\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            return {"failed": self._last_words()}
        ready, _, _ = select.select([self._child.stdout], [], [], CONVERT_SECONDS)
        if not ready:
            self._child.kill()
            return {"failed": f"no answer in {CONVERT_SECONDS} s"}
        line = self._child.stdout.readline()
        if not line:
            return {"failed": self._last_words()}
        found: dict[str, Any] = json.loads(line)
        return found

    def _last_words(self) -> str:
        code = self._child.wait()
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else f"the process ended with status {code}"


def _end(child: subprocess.Popen[str]) -> None:
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()
    child.kill()
    child.wait()


def interpreter() -> str:
    """The Python that has tensorflow and tf2onnx: this one, else the one that CONVKIT_TF_PYTHON names.

    Raises ConvkitError "missing-extra" where neither is there.
    """
    if all(importlib.util.find_spec(name) for name in ("tensorflow", "tf2onnx")):
        return sys.executable
    named = os.environ.get(PYTHON_VARIABLE)
    if named and os.access(named, os.X_OK):
        return named
    raise _missing(named)


def _missing(named: str | None) -> ConvkitError:
    why = f"; {PYTHON_VARIABLE} names {named}, which is no interpreter" if named else ""
    return error(
        "missing-extra",
        f"reading a TensorFlow or Keras model needs tensorflow and tf2onnx{why}",
        help=f"pip install 'convkit[tf]', or set {PYTHON_VARIABLE} to the python of an environment with them",
        exit_code=ExitCode.TOOLCHAIN,
    )
