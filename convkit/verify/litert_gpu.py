"""Oracle `litert-gpu`: ask LiteRT's own GPU accelerator (wheel `ai-edge-litert`) what it takes.

The accelerator runs in a child process with a time limit, on a GPU or on SwiftShader. Its verdict on a
graph names operator codes only; `ask_each` gives one verdict per operator by asking about a graph
made of that operator alone, with its constants and the DEQUANTIZEs that feed it from constants.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.dialects.tflite.writer import serialize
from convkit.verify.isolate import folded_constants, isolate
from convkit.verify.vulkan import VulkanSetup, find_vulkan

_CHILD = "convkit.verify.litert_gpu_child"
_REFUSAL = re.compile(
    r"Following operations are not supported by GPU delegate:\n(?P<lines>(?:.*\n)*?)(?=.*operations will run)"
)
_SPLIT = re.compile(
    r"(?P<gpu>No|\d+) operations will run on the GPU, and (?:the remaining|all) (?P<cpu>\d+) operations"
)


@dataclass(frozen=True)
class GpuAnswer:
    """What the accelerator said of one model.

    `available` is False, with `reason`, when it could not be asked at all. `refused` maps an operator
    code to the accelerator's own sentences. `error` is set when the model could not be prepared: the
    accelerator took operators and then failed on them, which on a phone is a failed load. `run_error`
    says why a prepared model was not computed (LiteRT's Python buffers hold no int64 or int16).
    `outputs` are keyed by signature name and present only where inputs were given.
    """

    available: bool
    reason: str = ""
    fully_accelerated: bool = False
    refused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ops_on_gpu: int = 0
    ops_on_cpu: int = 0
    error: str | None = None
    run_error: str | None = None
    outputs: Mapping[str, np.ndarray] | None = None
    log: str = field(default="", repr=False)

    @property
    def words(self) -> tuple[str, ...]:
        """Every sentence of refusal or failure."""
        lines = tuple(line for group in self.refused.values() for line in group)
        return lines + ((self.error,) if self.error else ())


@dataclass(frozen=True)
class GpuQuestion:
    """A model's bytes, its number of operators and, to compute too, inputs by signature name."""

    model: bytes | memoryview
    ops: int
    inputs: Mapping[str, np.ndarray] | None = None


def _environment(setup: VulkanSetup) -> dict[str, str]:
    package_root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(p for p in (package_root, os.environ.get("PYTHONPATH")) if p)
    environment = {**os.environ, **setup.environment, "PYTHONPATH": path}
    if setup.loader is not None:
        environment["CONVKIT_VULKAN_LOADER"] = setup.loader
    return environment


def parse_answer(answer: dict[str, Any], ops: int, outputs: Path) -> GpuAnswer:
    """Read a line of the child: `ops` is the model's number of operators, `outputs` its npz if any."""
    log: str = answer["log"]
    refused: dict[str, list[str]] = {}
    refusal = _REFUSAL.search(log)
    for line in refusal["lines"].splitlines() if refusal else ():
        code, _, words = line.partition(": ")
        refused.setdefault(code, []).append(words)
    split = _SPLIT.search(log)
    error = answer["error"]
    if split is not None:
        on_gpu = 0 if split["gpu"] == "No" else int(split["gpu"])
        on_cpu = int(split["cpu"])
    else:
        on_gpu, on_cpu = (ops, 0) if answer["accelerated"] else (0, ops)
    computed = None
    if outputs.exists():
        with np.load(outputs) as arrays:
            computed = {name: arrays[name] for name in arrays.files}
    return GpuAnswer(
        available=True,
        fully_accelerated=bool(answer["accelerated"]) and split is None and error is None,
        refused={code: tuple(lines) for code, lines in refused.items()},
        ops_on_gpu=on_gpu if error is None else 0,
        ops_on_cpu=on_cpu if error is None else ops,
        error=_first_words(error, log),
        run_error=answer["run_error"],
        outputs=computed,
        log=log,
    )


def _first_words(error: str | None, log: str) -> str | None:
    """The error with the lines of the log that explain it."""
    if error is None:
        return None
    said = [line for line in log.splitlines() if line.startswith(("ERROR", "E0000", "INVALID", "INTERNAL"))]
    return " | ".join(dict.fromkeys([*said, " ".join(error.split())]))


_Requests = list[dict[str, Any]]


def _run(requests: _Requests, folder: Path, setup: VulkanSetup, timeout: float) -> tuple[list[Any], str]:
    """Answers of one child, as many as it gave before its end, and why it ended early ('' if it did not)."""
    request_file = folder / "request.json"
    request_file.write_text(json.dumps(requests))
    command = [sys.executable, "-m", _CHILD, str(request_file)]
    try:
        done = subprocess.run(command, env=_environment(setup), capture_output=True, timeout=timeout)
        said, why = done.stdout, f"the accelerator's process ended with exit status {done.returncode}"
    except subprocess.TimeoutExpired as expired:
        said, why = expired.stdout or b"", f"the accelerator gave no answer within {timeout:g} s"
    answers = [json.loads(line) for line in said.decode().splitlines() if line.endswith("}")]
    return answers, "" if len(answers) == len(requests) else why


def _write_requests(questions: Sequence[GpuQuestion], folder: Path) -> _Requests:
    requests = []
    for index, question in enumerate(questions):
        request: dict[str, Any] = {"model": str(folder / f"{index}.tflite"), "inputs": None, "outputs": None}
        Path(request["model"]).write_bytes(question.model)
        if question.inputs is not None:
            request["inputs"] = str(folder / f"{index}.in.npz")
            request["outputs"] = str(folder / f"{index}.out.npz")
            np.savez(request["inputs"], **dict(question.inputs))  # type: ignore[arg-type]
        requests.append(request)
    return requests


def ask_many(questions: Sequence[GpuQuestion], timeout: float = 120.0) -> list[GpuAnswer]:
    """Ask about many models, in one child process for as long as it lives.

    A model that kills the accelerator, or is not answered when `timeout` seconds are over since its
    child started, gets an answer with `error`; the models after it are asked in a new child.
    """
    device = availability()
    if isinstance(device, str):
        return [GpuAnswer(available=False, reason=device)] * len(questions)
    results: list[GpuAnswer] = []
    with tempfile.TemporaryDirectory(prefix="convkit-gpu-") as name:
        folder = Path(name)
        requests = _write_requests(questions, folder)
        while len(results) < len(requests):
            answers, why = _run(requests[len(results) :], folder, device, timeout)
            for answer in answers:
                index = len(results)
                results.append(parse_answer(answer, questions[index].ops, folder / f"{index}.out.npz"))
            if why:
                results.append(GpuAnswer(True, error=why, ops_on_cpu=questions[len(results)].ops))
    return results


@cache
def availability() -> VulkanSetup | str:
    """The set-up in which the accelerator works on this machine, or a sentence why it does not."""
    if find_spec("ai_edge_litert") is None:
        return "the package ai-edge-litert is not installed"
    setup = find_vulkan()
    if isinstance(setup, str):
        return setup
    tensor = Tensor("x", (1, 4), np.dtype(np.float32))
    result = Tensor("y", (1, 4), np.dtype(np.float32))
    trial = Graph([tensor], [result], [Op("RELU", [tensor], [result])], ["x"], ["y"])
    with tempfile.TemporaryDirectory(prefix="convkit-gpu-") as name:
        folder = Path(name)
        answers, why = _run(_write_requests([GpuQuestion(serialize(trial), 1)], folder), folder, setup, 60.0)
    if not answers:
        return why
    if "Created a WebGPU environment" in answers[0]["log"]:
        return setup
    if "No adapters found" in answers[0]["log"]:
        return "the GPU accelerator found no Vulkan device"
    return "the GPU accelerator of ai-edge-litert did not load"


def ask(graph: Graph, inputs: Mapping[str, np.ndarray] | None = None, timeout: float = 300.0) -> GpuAnswer:
    """Ask about a whole graph and, given inputs by signature name, compute its outputs there."""
    return ask_many([GpuQuestion(serialize(graph), len(graph.ops), inputs)], timeout)[0]


def ask_each(graph: Graph, timeout: float = 300.0) -> list[GpuAnswer]:
    """One answer per operator of `graph`, in order; equal operators are asked once.

    A DEQUANTIZE of a constant is folded by the accelerator and has its first reader's answer.
    """
    questions, places = _each(graph)
    answers = ask_many(questions, timeout)
    return [answers[place] for place in places]


def ask_all(
    graph: Graph, inputs: Mapping[str, np.ndarray] | None = None, timeout: float = 300.0
) -> tuple[GpuAnswer, list[GpuAnswer]]:
    """`ask` and `ask_each` in one child process."""
    questions, places = _each(graph)
    whole = GpuQuestion(serialize(graph), len(graph.ops), inputs)
    *answers, last = ask_many([*questions, whole], timeout)
    return last, [answers[place] for place in places]


def _each(graph: Graph) -> tuple[list[GpuQuestion], list[int]]:
    """A question for every different operator, and the question's number for each operator."""
    folded = folded_constants(graph)
    readers = graph.consumers()
    asked: dict[bytes, int] = {}
    questions: list[GpuQuestion] = []
    places: list[int] = []
    for op in graph.ops:
        if id(op.outputs[0]) in folded and readers.get(id(op.outputs[0])):
            op = readers[id(op.outputs[0])][0]
        alone = isolate(op, folded)
        model = serialize(alone)
        key = hashlib.blake2b(model).digest()
        if key not in asked:
            asked[key] = len(questions)
            questions.append(GpuQuestion(model, len(alone.ops)))
        places.append(asked[key])
    return questions, places
