"""Confirm an artifact: the model runs in onnxruntime meanwhile, then the artifact on the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import onnx_ir as ir

from convkit.compiler.interface import Interface, bind
from convkit.compiler.options import CompileOptions
from convkit.compiler.repair import Candidate
from convkit.diagnostics import ConvkitError
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

    Raises ConvkitError "wrong-numbers" if it computes something else than the model.
    """
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
