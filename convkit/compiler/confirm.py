"""Confirm an artifact: run it beside the model, and ask the real delegate where one can run here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.compiler.options import CompileOptions
from convkit.compiler.repair import Candidate
from convkit.diagnostics import ConvkitError
from convkit.dialects.tflite.layout import LayoutStats
from convkit.ir.facts import dtype_of, shape_of
from convkit.report import OracleAnswer, OutputError, Verification
from convkit.targets import Status
from convkit.verify.inputs import Binding
from convkit.verify.noise import FLOAT16_ROUNDOFF, FLOAT32_ROUNDOFF, rounding_noise
from convkit.verify.numeric import (
    FLOAT16_TOLERANCE,
    FLOAT32_TOLERANCE,
    ReferenceRun,
    compare,
    mismatch,
    run_reference,
    verify,
)

_CHANNELS_LAST = (0, 2, 3, 1)


def bind(values: Sequence[ir.Value]) -> tuple[Binding, ...]:
    """Interface values by name, static shape and dtype."""
    return tuple(Binding(v.name or "", shape_of(v), dtype_of(v).numpy()) for v in values)


@contextmanager
def reference_beside(
    source: Any, model: ir.Model, options: CompileOptions, frozen: Mapping[str, Any]
) -> Iterator[Callable[[], ReferenceRun]]:
    """Run `source` in onnxruntime on a thread of its own, while the caller compiles; call for the answer.

    `model` is the source as loaded, with static input shapes; `frozen` holds the values of its inputs that
    became constants. Nothing runs where `options` ask for no comparison.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        if options.verify or options.oracle:
            inputs = bind(model.graph.inputs)
            yield pool.submit(run_reference, _runnable(source), inputs, options.inputs, frozen).result
        else:
            yield lambda: ReferenceRun("", "", {}, {})


@dataclass(frozen=True)
class Interface:
    """The model's own inputs and outputs: names, static shapes and dtypes, in order."""

    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]

    @classmethod
    def of(cls, graph: ir.Graph) -> Interface:
        """The interface of a graph in normal form."""
        return cls(bind(graph.inputs), bind(graph.outputs))

    def stored(self, layout: LayoutStats) -> Interface:
        """The same, with the axis orders that the artifact stores."""

        def order(bindings: Sequence[Binding], nhwc: Sequence[str]) -> tuple[Binding, ...]:
            return tuple(
                Binding(b.name, b.shape, b.dtype, _CHANNELS_LAST if b.name in nhwc else None)
                for b in bindings
            )

        return Interface(order(self.inputs, layout.nhwc_inputs), order(self.outputs, layout.nhwc_outputs))


def confirm(
    reference: ReferenceRun,
    candidate: Candidate,
    artifact: bytes,
    interface: Interface,
    options: CompileOptions,
) -> tuple[Verification | None, OracleAnswer | None]:
    """Verify the numbers and, with `options.oracle`, ask the delegate.

    Raises ConvkitError "wrong-numbers" if the artifact computes something else than the model.
    """
    single = options.precision == "fp32"
    verification = None
    if options.verify:
        verification = verify(
            reference,
            artifact,
            interface.inputs,
            interface.outputs,
            tolerance=FLOAT32_TOLERANCE if single else FLOAT16_TOLERANCE,
            noise=partial(
                rounding_noise,
                candidate.model,
                reference.inputs,
                FLOAT32_ROUNDOFF if single else FLOAT16_ROUNDOFF,
            ),
        )
        wrong = mismatch(verification)
        if wrong is not None:
            raise ConvkitError(wrong)
    return verification, _ask_gpu(candidate, interface, reference) if options.oracle else None


def _runnable(source: Any) -> Path | bytes:
    """The model as onnxruntime takes it."""
    if isinstance(source, (str, os.PathLike)):
        return Path(source)
    if isinstance(source, bytes):
        return source
    proto = ir.to_proto(source) if isinstance(source, ir.Model) else source
    serialized = proto.SerializeToString()
    assert isinstance(serialized, bytes)
    return serialized


def _ask_gpu(candidate: Candidate, interface: Interface, reference: ReferenceRun) -> OracleAnswer | None:
    """What LiteRT's GPU accelerator says of each operator and of the whole, and what it computes."""
    from convkit.verify import litert_gpu

    graph, verdict = candidate.graph, candidate.verdict

    feeds = {
        name: b.to_artifact(reference.inputs[b.name], tensor.dtype)
        for name, b, tensor in zip(graph.signature_inputs, interface.inputs, graph.inputs, strict=True)
    }
    whole = litert_gpu.ask(graph, feeds)
    if not whole.available:
        return None
    each = litert_gpu.ask_each(graph)
    disagreements = [
        f"operator {i} ({found.code}): we say {found.status}, the delegate "
        + ("takes it" if answer.fully_accelerated else "; ".join(answer.words) or "refuses it")
        for i, (found, answer) in enumerate(zip(verdict.ops, each, strict=True))
        if (found.status in (Status.ACCELERATED, Status.STRANDED)) != answer.fully_accelerated
    ]
    outputs: tuple[OutputError, ...] = ()
    if whole.outputs is not None:
        outputs = tuple(
            compare(
                b.name,
                reference.outputs[b.name],
                b.from_artifact(np.asarray(whole.outputs[name])),
                FLOAT16_TOLERANCE,
            )
            for name, b in zip(graph.signature_outputs, interface.outputs, strict=True)
        )
    return OracleAnswer(
        name="litert-gpu",
        whole=whole.fully_accelerated,
        accelerated_ops=whole.ops_on_gpu,
        total_ops=len(graph.ops),
        refused=tuple(i for i, answer in enumerate(each) if not answer.fully_accelerated),
        agreement=1 - len(disagreements) / len(each) if each else 1.0,
        disagreements=tuple(disagreements),
        outputs=outputs,
    )
