"""Post-training quantization of the lowered TFLite graph: observe, plan, write integers, prove them."""

from convkit.quantize.quantizer import SCHEMES, Quantized, Scheme, Settings, quantize

__all__ = ["SCHEMES", "Quantized", "Scheme", "Settings", "quantize"]
