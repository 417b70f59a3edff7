"""The compiler: the driver that takes a model through all stages, and what it gives back."""

from convkit.compiler.driver import Compilation, CompileResult, compile_model
from convkit.compiler.options import CompileOptions

__all__ = ["Compilation", "CompileOptions", "CompileResult", "compile_model"]
