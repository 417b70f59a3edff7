"""What a .tflite file is made of, and how fast XNNPACK runs it.

python -m bench.artifacts A.tflite B.tflite     # interleaved latencies, one thread
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def operators(path: Path) -> Counter[str]:
    """How often each operator occurs in the main subgraph."""
    from ai_edge_litert import schema_py_generated as schema

    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    return Counter(names[codes[op.opcodeIndex]] for op in model.subgraphs[0].operators)


def latencies(paths: Sequence[Path], rounds: int = 30) -> list[float]:
    """Median milliseconds of each file in LiteRT with XNNPACK on one thread, measured in turns."""
    from ai_edge_litert.interpreter import Interpreter

    interpreters = []
    rng = np.random.default_rng(0)
    for path in paths:
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            shape, dtype = detail["shape"], np.dtype(detail["dtype"])
            values = rng.random(shape) if dtype.kind == "f" else rng.integers(0, 2, shape)
            interpreter.set_tensor(detail["index"], np.asarray(values).astype(dtype))
        interpreter.invoke()
        interpreters.append(interpreter)
    times: list[list[float]] = [[] for _ in paths]
    started = time.perf_counter()
    pairs = list(zip(interpreters, times, strict=True))
    for _ in range(rounds):
        pairs.reverse()  # whoever runs second finds other caches
        for interpreter, seen in pairs:
            start = time.perf_counter()
            interpreter.invoke()
            seen.append(1e3 * (time.perf_counter() - start))
        if time.perf_counter() - started > 60 and len(times[0]) >= 5:
            break
    return [statistics.median(seen) for seen in times]


if __name__ == "__main__":
    for file, milliseconds in zip(sys.argv[1:], latencies([Path(p) for p in sys.argv[1:]]), strict=True):
        print(f"{milliseconds:9.3f} ms  {file}")
