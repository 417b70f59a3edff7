"""Preview of quantization: a model is lowered once, and every scheme measured on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convkit.compiler.driver import Compilation
from convkit.compiler.interface import Interface
from convkit.compiler.options import CompileOptions, Quantization
from convkit.compiler.quantized import samples_of, search_stage
from convkit.diagnostics import error
from convkit.quantize.preview import Row, preview
from convkit.quantize.sensitivity import Mixed, Sensitivity, sensitivity

_SENSITIVITY_SAMPLES = 8


@dataclass(frozen=True)
class QuantizationPreview:
    """A row per scheme; layers by what they lose alone in int8; the mixture that reaches a quality. Each is
    there where it was asked for."""

    rows: tuple[Row, ...]
    layers: tuple[Sensitivity, ...]
    calibrated: int
    measured: int
    mixed: Mixed | None = None


def preview_quantization(
    source: Any,
    wanted: Quantization,
    options: CompileOptions | None = None,
    *,
    schemes: bool = True,
    layers: bool = False,
) -> QuantizationPreview:
    """Quantize a model by every scheme and measure size, latency and loss on samples set aside; rank its
    `layers`; search for the mixture that reaches what is `wanted`.

    Of four or more samples a quarter is set aside; fewer serve for both. Raises ConvkitError
    "no-calibration" without data.
    """
    compilation = Compilation(source, "tflite-cpu", options or CompileOptions())
    model = compilation.load().model
    compilation.prepare(model)
    lowered = compilation.emitter.lower(model)
    graph, layout = lowered.floats, lowered.layout
    samples = samples_of(wanted, graph, Interface.of(model.graph).stored(layout))
    if not samples:
        raise error(
            "no-calibration", "a preview needs sample data", help="give it by --calibration DATA or `random`"
        )
    fresh = max(1, len(samples) // 4)
    used = samples[:-fresh] if len(samples) >= 4 else samples
    rows = tuple(preview(graph, used, samples[-fresh:])) if schemes else ()
    mixed = search_stage(wanted, graph, used, "int16") if wanted.is_search else None
    found = sensitivity(graph, wanted.settings, used[:_SENSITIVITY_SAMPLES]) if layers else []
    return QuantizationPreview(rows, tuple(found), len(used), fresh, mixed)
