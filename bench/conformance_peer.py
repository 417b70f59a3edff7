"""The standard's cases through onnx2tf and LiteRT; writes bench/conformance_peer.json.

Run it with the interpreter of the peers' environment (`make peers`):
    .venv-peers/bin/python -m bench.conformance_peer [-p PROCESSES] [--limit SECONDS]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from itertools import permutations
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.conformance.suite import Case, cases

RESULTS = Path(__file__).with_suffix(".json")
_NOTE = (
    "each case alone, with `-kat` for all inputs; an output also counts as right with its axes in "
    "another order, since the peer moves channels last; files with custom operators that no interpreter "
    "resolves are failures; refused are also conversions that crash or run out of time; no inputs were bound "
    "for the peer, as they are for convkit where a parameter is an input"
)


def _convert(case: Case, folder: Path) -> Path | None:
    """The float32 file that the peer writes, or None where it gives up."""
    import onnx2tf

    source = folder / "model.onnx"
    onnx.save(case.model, str(source))
    constants = {tensor.name for tensor in case.model.graph.initializer}
    names = [v.name for v in case.model.graph.input if v.name not in constants]
    try:
        onnx2tf.convert(
            input_onnx_file_path=str(source),
            output_folder_path=str(folder / "out"),
            keep_shape_absolutely_input_names=names or None,
            non_verbose=True,
        )
    except (Exception, SystemExit):
        return None
    return next(iter(sorted(folder.glob("out/*_float32.tflite"))), None)


def _outputs(path: Path, case: Case, given: list[Any]) -> list[np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    details = interpreter.get_input_details()
    constants = {tensor.name for tensor in case.model.graph.initializer}
    names = [v.name for v in case.model.graph.input if v.name not in constants]
    feed = []
    for at, detail in enumerate(details):
        stem = detail["name"].removeprefix("serving_default_").split(":")[0]
        feed.append(np.asarray(given[names.index(stem) if stem in names else at]))
    for detail, array in zip(details, feed, strict=True):
        if tuple(detail["shape"]) != array.shape:
            interpreter.resize_tensor_input(detail["index"], array.shape)
    interpreter.allocate_tensors()
    for detail, array in zip(details, feed, strict=True):
        interpreter.set_tensor(detail["index"], array.astype(detail["dtype"]))
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def _right(found: list[np.ndarray], wanted: list[Any], case: Case) -> bool:
    """Whether each wanted output is among the found ones, up to the order of axes and the integers' width."""
    rest = list(found)
    for want in map(np.asarray, wanted):
        for i, have in enumerate(rest):
            if have.ndim == want.ndim and have.dtype.kind == want.dtype.kind and _alike(have, want, case):
                del rest[i]
                break
        else:
            return False
    return True


def _alike(have: np.ndarray, want: np.ndarray, case: Case) -> bool:
    orders = permutations(range(want.ndim)) if 3 <= want.ndim <= 5 else [tuple(range(want.ndim))]
    for order in orders:
        moved = have.transpose(order)
        if moved.shape == want.shape and np.allclose(moved, want, case.rtol, case.atol, equal_nan=True):
            return True
    return False


def _child(pipe: Connection, case: Case) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        images = np.random.default_rng(0).random((20, 128, 128, 3), dtype=np.float32)
        np.save("calibration_image_sample_data_20x128x128x3_float32.npy", images)
        path = _convert(case, Path(name))
        if path is None:
            pipe.send("refused")
            return
        pipe.send("converted")
        try:
            right = all(_right(_outputs(path, case, given), wanted, case) for given, wanted in case.data)
        except Exception:
            pipe.send("failed")
            return
        pipe.send("passed" if right else "failed")


class _Running:
    def __init__(self, case: Case, limit: float) -> None:
        context = multiprocessing.get_context("fork")
        self.case = case
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_child, args=(theirs, case), daemon=True)
        self.process.start()
        theirs.close()
        self.until = time.monotonic() + limit

    def status(self) -> str | None:
        """The result, or None while it runs; a conversion that ends without a word was refused."""
        if self.process.is_alive() and time.monotonic() < self.until:
            return None
        self.process.kill()
        self.process.join()
        said = "refused"
        try:
            while self.pipe.poll():
                said = self.pipe.recv()
        except EOFError:
            pass
        self.pipe.close()
        return "failed" if said == "converted" else said


def main() -> None:
    """Run all cases, saving every now and then; cases already in the file are not run again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-p", "--processes", type=int, default=2)
    parser.add_argument("--limit", type=float, default=60.0)
    options = parser.parse_args()
    import onnx2tf
    import tensorflow  # noqa: F401 - imported once, before the children are forked

    known: dict[str, str] = json.loads(RESULTS.read_text())["cases"] if RESULTS.exists() else {}
    # A fixed shuffle: a run that is stopped leaves an even sample.
    order = np.random.default_rng(0).permutation(len(cases()))
    todo = [c for c in (cases()[i] for i in order) if not c.outside and f"{c.kind}/{c.name}" not in known]
    running: list[_Running] = []
    while todo or running:
        while todo and len(running) < options.processes:
            running.append(_Running(todo.pop(0), options.limit))
        time.sleep(0.02)
        for child in list(running):
            status = child.status()
            if status is not None:
                running.remove(child)
                known[f"{child.case.kind}/{child.case.name}"] = status
                if len(known) % 20 == 0:
                    _save(known, onnx2tf.__version__)
                    print(len(known), len(todo), file=sys.stderr, flush=True)
    _save(known, onnx2tf.__version__)


def _save(known: dict[str, str], version: str) -> None:
    counted = sum(not case.outside for case in cases())
    sample = "" if len(known) == counted else f" A random sample of {len(known)} of the {counted} cases."
    document = {
        "peer": f"onnx2tf {version}",
        "date": datetime.now(UTC).date().isoformat(),
        "note": f"{_NOTE}.{sample}",
        "cases": dict(sorted(known.items())),
    }
    RESULTS.write_text(json.dumps(document, indent=0) + "\n")


if __name__ == "__main__":
    main()
