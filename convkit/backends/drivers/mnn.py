"""MNN: the converter's library turns an ONNX or Caffe model into .mnn, the package runs it.

The library is called without the wheel's `mnnconvert` script, which installs a package and reports home.
"""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from _protocol import Refused, load_arrays, save_arrays, serve

_CONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv[1:])"


def compile(request):
    """Convert `model` (of `format`) with `flags`; run the result on `arrays` where given."""
    convert(request["format"], request["model"], request["flags"])
    reply = {"tool": f"MNN {version('MNN')}", "runtime": f"MNN {version('MNN')}, CPU"}
    if request["arrays"]:
        arrays = load_arrays(request["arrays"])
        save_arrays("outputs.npz", run(request["inputs"], request["outputs"], arrays, request["shapes"]))
    return reply


def convert(kind, model, flags):
    """The converter crashes on some models and returns 0 for those it does not take: it runs apart."""
    argv = [
        "mnnconvert",
        "-f",
        kind,
        "--modelFile",
        model[0],
        "--MNNModel",
        "model.mnn",
        "--bizCode",
        "convkit",
    ]
    argv += ["--prototxt", model[1]] if len(model) > 1 else []
    done = subprocess.run(
        [sys.executable, "-c", _CONVERT, *argv, *flags],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    said = done.stdout + done.stderr
    print(said, flush=True)
    if not Path("model.mnn").exists():
        lacking = re.findall(r"Not Support:\s*(\S+(?:\s*\S+::\S+)*)", said)
        if lacking:
            raise Refused(f"its converter lacks {', '.join(dict.fromkeys(' '.join(lacking).split()))}")
        last = [line for line in said.splitlines() if line.strip()][-1:]
        raise Refused(f"its converter ended with code {done.returncode}: {' '.join(last)}")


def run(inputs, outputs, arrays, shapes):
    """The outputs in the model's order of dimensions, by full precision on the CPU."""
    import MNN
    import numpy as np
    from MNN import expr

    net = MNN.nn.load_module_from_file("model.mnn", inputs, outputs)
    given = []
    for array in arrays:
        floats = array.dtype.kind == "f"
        kept = np.ascontiguousarray(array, np.float32 if floats else np.int32)
        given.append(expr.const(kept, list(kept.shape), expr.NCHW, expr.float if floats else expr.int))
    found, computed = [], net.forward(given)
    if len(computed) != len(shapes):
        raise Refused(f"MNN gives {len(computed)} outputs, the model has {len(shapes)}")
    for value, shape in zip(computed, shapes):
        array = np.array(expr.convert(value, expr.NCHW).read())
        if array.size != np.prod(shape):
            raise Refused(f"MNN gives an output of shape {array.shape}, the model says {tuple(shape)}")
        found.append(array.reshape(shape))
    return found


if __name__ == "__main__":
    serve(compile=compile)
