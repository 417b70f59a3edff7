"""Rockchip's rknn-toolkit2: builds a .rknn, tells where each operator runs, and simulates the NPU."""

import os
import re
import sys
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from _protocol import Refused, load_arrays, save_arrays, serve

ROW = re.compile(
    r"RKNN: \[[\d:.]+\] +\d+ +(?P<type>\S+) +(?P<dtype>\S+) +(?P<target>CPU|NPU|GPU) .* "
    r"\d+/\d+/(?P<cycles>\d+) .*?(?P<name>\S*) *$"
)
WARNING = re.compile(r"^W RKNN: \[[\d:.]+\] (?P<words>.+)$")
MEMORY = re.compile(r"Total (?P<kind>Internal|Weight) Memory Size: (?P<kilobytes>[\d.]+)KB")
ERROR = re.compile(r"^\W*(?:\x1b\[[\d;]*m)*E(?:\x1b\[[\d;]*m|[ :])+(?P<words>.+?)(?:\x1b\[0m)?$")


def compile(request):
    """Build `model` for `platform`, from `samples` where it is to be quantized; run it on `arrays`.

    The reply has a row for every operator of what was built: its type, where it runs, its name.
    """
    from rknn.api import RKNN

    with captured(Path("build.log")):
        toolkit = RKNN(verbose=True)
        try:
            build(toolkit, request)
            if request["artifact"] and toolkit.export_rknn(request["artifact"]):
                raise Refused("the model was built and cannot be written")
            if request["arrays"]:
                save_arrays("outputs.npz", simulate(toolkit, load_arrays(request["arrays"])))
        finally:
            said = Path("build.log").read_text(errors="replace")
    return {"version": version("rknn-toolkit2"), **table(said)}


def build(toolkit, request):
    """Load and build; what the toolkit refuses it says as an error in its log or an exception."""
    toolkit.config(target_platform=request["platform"], **request["config"])
    dataset = None
    if request["samples"]:
        dataset = write_dataset(load_arrays(request["samples"]), request["inputs"])
    steps = (
        ("load_onnx", {"model": request["model"]}),
        ("build", {"do_quantization": dataset is not None, "dataset": dataset}),
    )
    for step, arguments in steps:
        try:
            failed = getattr(toolkit, step)(**arguments)
        except Exception as problem:  # the toolkit raises ValueError with its own traceback as the text
            raise Refused(last_words(str(problem))) from problem
        if failed:
            raise Refused(last_words(Path("build.log").read_text(errors="replace")))


def write_dataset(arrays, inputs):
    """The file that names the samples: a line each, with one .npy for every input."""
    import numpy as np

    lines = []
    for start in range(0, len(arrays), inputs):
        names = [f"sample{start + i}.npy" for i in range(inputs)]
        for name, array in zip(names, arrays[start : start + inputs]):
            np.save(name, array)
        lines.append(" ".join(names))
    Path("dataset.txt").write_text("\n".join(lines) + "\n")
    return "dataset.txt"


def simulate(toolkit, arrays):
    """What the simulator computes; 4 dimensions are else taken to end in channels."""
    if toolkit.init_runtime():
        raise Refused("the simulator does not load what was built")
    found = toolkit.inference(inputs=arrays, data_format=["nchw"] * len(arrays))
    if found is None:
        raise Refused("the simulator cannot run what was built")
    return found


def table(said):
    """What the log says: a row for each operator, warnings, memory."""
    rows = [found.groupdict() for found in map(ROW.search, said.splitlines()) if found]
    if not rows:
        raise Refused(last_words(said))
    warnings = (WARNING.match(line) for line in said.splitlines())
    return {
        "rows": [row for row in rows if row["type"] not in ("InputOperator", "OutputOperator")],
        "warnings": list(dict.fromkeys(found["words"] for found in warnings if found)),
        "memory": {found["kind"].lower(): float(found["kilobytes"]) for found in MEMORY.finditer(said)},
    }


def last_words(text):
    """The error in a log or a traceback, in one line."""
    errors = [found["words"] for found in map(ERROR.match, text.splitlines()) if found]
    plain = [line.strip() for line in text.splitlines() if line.strip()]
    chosen = next((e for e in errors if "Traceback" not in e and "version" not in e), (plain or ["?"])[-1])
    return re.sub(r"\x1b\[[\d;]*m", "", chosen).removeprefix("ValueError: ")[:400]


@contextmanager
def captured(path):
    """What is printed meanwhile, by native code too, goes to a file, and to the log afterwards."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with path.open("wb") as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, old in zip((1, 2), saved):
            os.dup2(old, descriptor)
            os.close(old)
        os.write(1, path.read_bytes())


if __name__ == "__main__":
    serve(compile=compile)
