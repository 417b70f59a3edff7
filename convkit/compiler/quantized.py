"""The quantization stage of a compile: samples, the quantized graph, and what it lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from convkit.compiler.interface import Interface
from convkit.compiler.options import Quantization
from convkit.diagnostics import ConvkitError, error
from convkit.dialects.tflite.graph import Graph
from convkit.quantize.data import Preprocess, load_samples
from convkit.quantize.quantizer import Quantized, no_calibration, quantize
from convkit.quantize.run import Runner, Sample
from convkit.quantize.sensitivity import Mixed, at_least, search_mixed
from convkit.quantize.simulate import operator_errors, step_limit
from convkit.report import FloatOperator, OutputError, QuantizationSummary
from convkit.verify.numeric import compare

_EVALUATED = 16
"""Samples on which the loss is measured."""


def samples_of(wanted: Quantization, graph: Graph, interface: Interface) -> list[Sample]:
    """The calibration data as the artifact stores its inputs; none where none is given."""
    if wanted.calibration is None:
        return []
    given = load_samples(
        wanted.calibration, interface.inputs, wanted.samples, wanted.preprocess or Preprocess()
    )
    bound = list(zip(interface.inputs, graph.inputs, strict=True))
    return [[b.to_artifact(sample[b.name], tensor.dtype) for b, tensor in bound] for sample in given]


def search_stage(
    wanted: Quantization, graph: Graph, samples: Sequence[Sample], raised_to: Literal["int16", "float"]
) -> Mixed:
    """The fewest layers raised that reach the quality asked for; ConvkitError "quality-not-reached"."""
    if not samples:
        raise no_calibration(wanted.settings.scheme)
    used = samples[:_EVALUATED]
    meets = at_least(graph, used, wanted.min_sqnr, wanted.min_psnr)
    found = search_mixed(graph, wanted.settings, used, meets, raised_to)
    if not found.met:
        raise error(
            "quality-not-reached",
            f"not even with all layers in {raised_to} do the outputs reach what is asked for",
            help="ask for less, or for --quantize int16x8 or fp16",
        )
    return found


def quantize_stage(
    wanted: Quantization,
    graph: Graph,
    interface: Interface,
    raised_to: Literal["int16", "float"] = "int16",
) -> tuple[Quantized, QuantizationSummary]:
    """Quantize the float graph and measure what that costs.

    Raises ConvkitError "wrong-quantized-numbers" where an operator's integers are further from its
    float simulation than the kernels round; see `quantize` and `load_samples` for others.
    """
    samples = samples_of(wanted, graph, interface)
    mixed = search_stage(wanted, graph, samples, raised_to) if wanted.is_search else None
    quantized = quantize(graph, wanted.settings, samples) if mixed is None else mixed.quantized
    if not samples:  # weights alone are quantized: any inputs show the loss
        samples = samples_of(
            Quantization(wanted.settings, "random", samples=1, preprocess=None), graph, interface
        )
    steps = check_steps(quantized.graph, samples[0]) if wanted.settings.needs_calibration else None
    errors = output_errors(graph, quantized.graph, samples[:_EVALUATED], interface)
    summary = QuantizationSummary(
        scheme=wanted.settings.scheme,
        method=wanted.settings.method if wanted.settings.needs_calibration else None,
        calibration=None if wanted.calibration is None else described(wanted.calibration),
        samples=len(samples) if wanted.calibration is not None else 0,
        equalized=quantized.equalized,
        left_float=tuple(FloatOperator(op.code, op.outputs[0].name) for op in quantized.left_float),
        max_steps=steps,
        outputs=errors,
        raised=() if mixed is None else tuple(FloatOperator(r.code, r.name) for r in mixed.raised),
        raised_to=None if mixed is None else raised_to,
        int8_macs=1.0 if mixed is None else mixed.int8_share,
    )
    return quantized, summary


def described(source: object) -> str:
    """Calibration data as the report names it."""
    return str(source) if not isinstance(source, (dict, list, tuple)) else "arrays"


def output_errors(
    reference: Graph, graph: Graph, samples: Sequence[Sample], interface: Interface
) -> tuple[OutputError, ...]:
    """How far each output of a quantized graph is from the float graph's, over all samples."""
    wanted = zip(*Runner(reference).run(samples), strict=True)
    found = zip(*Runner(graph).run(samples), strict=True)
    return tuple(
        compare(b.name, np.stack(want), np.stack(got), np.inf)
        for b, want, got in zip(interface.outputs, wanted, found, strict=True)
    )


def check_steps(graph: Graph, sample: Sample) -> float:
    """The greatest error of an operator against its float simulation, in steps of its output's grid."""
    worst = 0.0
    for found in operator_errors(graph, sample):
        limit = step_limit(found.op)
        if not found.steps <= limit:
            raise wrong_steps(found.op.code, found.op.outputs[0].name, found.steps, limit)
        worst = max(worst, found.steps)
    return worst


def wrong_steps(code: str, name: str, steps: float, limit: float) -> ConvkitError:
    """The refusal of an operator whose integers are further from its float simulation than rounding."""
    return error(
        "wrong-quantized-numbers",
        f"{code} that makes {name!r} is {steps:.1f} steps from its float simulation; {limit:g} is rounding",
        help="keep this operator in float, and report it",
    )
