"""Confirm an artifact: the model runs in onnxruntime meanwhile, then the artifact on the same inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import onnx_ir as ir

from convkit.compiler.interface import Interface, bind
from convkit.compiler.options import CompileOptions
from convkit.compiler.quantized import check_steps
from convkit.compiler.repair import Candidate
from convkit.diagnostics import ConvkitError, error
from convkit.dialects.tflite.graph import Graph
from convkit.frontends import Runtime
from convkit.report import Verification
from convkit.verify.noise import FLOAT16_ROUNDOFF, FLOAT32_ROUNDOFF, rounding_noise
from convkit.verify.numeric import (
    FLOAT16_TOLERANCE,
    FLOAT32_TOLERANCE,
    ReferenceRun,
    mismatch,
    run_reference,
    verify,
)

_INTEGERS_PSNR_DB = 20.0
_INTEGER_STEPS = 64
"""What single steps in all operators may add up to: a step of a logit is a fifth of a probability."""


@contextmanager
def reference_beside(
    source: Runtime, model: ir.Model, options: CompileOptions, frozen: Mapping[str, Any]
) -> Iterator[Callable[[], ReferenceRun]]:
    """Run the model as given, `source`, on a thread while the caller compiles; call for the answer.

    `model` is the model as loaded, with static input shapes; `frozen` holds the values of its inputs that
    became constants. Nothing runs where `options` ask for no comparison.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        if options.verify or options.oracle:
            inputs = bind(model.graph.inputs)
            yield pool.submit(run_reference, source, inputs, options.inputs, frozen).result
        else:
            yield lambda: ReferenceRun("", "", {}, {})


def confirm(
    reference: ReferenceRun,
    candidate: Candidate,
    artifact: bytes,
    interface: Interface,
    options: CompileOptions,
) -> Verification:
    """Run the artifact on the reference's inputs and compare.

    A model that came quantized and is kept on its integers, whose kernels round otherwise than the model
    says, is held to a step for each operator by itself, and coarsely as a whole. Raises ConvkitError
    "wrong-numbers" or "wrong-quantized-numbers" if it computes something else than the model.
    """
    if any(t.quantization is not None for op in candidate.floats.ops for t in op.outputs):
        return _confirm_integers(reference, candidate.floats, artifact, interface)
    single = options.precision == "fp32"
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
    return verification


def _confirm_integers(
    reference: ReferenceRun, graph: Graph, artifact: bytes, interface: Interface
) -> Verification:
    bound = zip(interface.inputs, graph.inputs, strict=True)
    check_steps(graph, [b.to_artifact(reference.inputs[b.name], tensor.dtype) for b, tensor in bound])
    found = verify(
        reference,
        artifact,
        interface.inputs,
        interface.outputs,
        tolerance=math.inf,
        noise=lambda: dict.fromkeys(reference.outputs, 0.0),
    )
    wrong = mismatch(found)
    if wrong is not None:
        raise ConvkitError(wrong)
    for output in found.outputs:
        integer = output.cosine is None and output.psnr_db is None and output.sqnr_db is None
        near = (
            output.max_abs <= _INTEGER_STEPS if integer else (output.psnr_db or math.inf) >= _INTEGERS_PSNR_DB
        )
        if not near:
            raise error(
                "wrong-numbers",
                f"output {output.name!r} of the quantized model is off by {output.max_rel:.1e} of its range, "
                "more than its kernels' rounding explains",
                help="compile without its quantization, and report it",
            )
    return found
