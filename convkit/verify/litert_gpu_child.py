"""The process that asks LiteRT's GPU accelerator: `python -m convkit.verify.litert_gpu_child REQUEST`.

REQUEST is a JSON file: a list of {"model": path, "inputs": npz or null, "outputs": npz or null}.
One JSON line per model goes to stdout as soon as it is known, so a crash loses one answer only.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any


def _compute(model: Any, inputs: str, outputs: str) -> None:
    """Run the first signature on the arrays of an npz file, keyed by the signature's names."""
    import numpy as np

    key, signature = next(iter(model.get_signature_list().items()))
    details = model.get_output_tensor_details(key)
    given = np.load(inputs)
    sources = {name: model.create_input_buffer_by_name(key, name) for name in signature["inputs"]}
    for name, buffer in sources.items():
        if given[name].size:
            buffer.write(given[name])
    sinks = {name: model.create_output_buffer_by_name(key, name) for name in signature["outputs"]}
    model.run_by_name(key, sources, sinks)
    arrays = {}
    for name, buffer in sinks.items():
        shape, dtype = details[name]["shape"], np.dtype(details[name]["dtype"])
        arrays[name] = buffer.read(int(np.prod(shape)), dtype).reshape(shape)
    np.savez(outputs, **arrays)


def _ask(request: dict[str, str | None], environment: Any) -> dict[str, Any]:
    from ai_edge_litert.compiled_model import CompiledModel, CpuOptions, GpuOptions, Options
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator

    options = Options(
        hardware_accelerators=HardwareAccelerator.GPU | HardwareAccelerator.CPU,
        cpu_options=CpuOptions(num_threads=1),
        gpu_options=GpuOptions(enforce_f32=True),
    )
    answer: dict[str, Any] = {"accelerated": False, "error": None, "run_error": None}
    try:
        model = CompiledModel.from_file(request["model"], options=options, environment=environment)
        answer["accelerated"] = model.is_fully_accelerated()
    except (RuntimeError, ValueError) as problem:
        answer["error"] = str(problem)
        return answer
    if request["inputs"] is not None and request["outputs"] is not None:
        try:
            _compute(model, request["inputs"], request["outputs"])
        except (RuntimeError, ValueError, KeyError) as problem:
            answer["run_error"] = str(problem)
    return answer


def main(request_file: str) -> None:
    """Answer every request; the accelerator's own words (stderr) go into the answer as `log`."""
    replies = os.fdopen(os.dup(1), "w")
    loader = os.environ.get("CONVKIT_VULKAN_LOADER")
    if loader:
        # The accelerator opens the loader by its soname; one already in memory is what it gets.
        ctypes.CDLL(loader, mode=ctypes.RTLD_GLOBAL)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        import ai_edge_litert
        from ai_edge_litert.environment import Environment, EnvironmentOptions

        runtime = os.path.dirname(os.path.abspath(ai_edge_litert.__file__))
        environment = Environment.create(options=EnvironmentOptions(runtime_path=runtime))
        for request in json.loads(Path(request_file).read_text()):
            start = os.lseek(log.fileno(), 0, os.SEEK_END)
            answer = _ask(request, environment)
            end = os.lseek(log.fileno(), 0, os.SEEK_END)
            answer["log"] = os.pread(log.fileno(), end - start, start).decode(errors="replace")
            os.lseek(log.fileno(), 0, os.SEEK_END)
            print(json.dumps(answer), file=replies, flush=True)
    os._exit(0)  # the accelerator's own tear-down at exit is slow and has nothing to say


if __name__ == "__main__":
    main(sys.argv[1])
