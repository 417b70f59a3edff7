"""The compiler: the driver that takes a model through all stages, and what it gives back."""

from convkit.compiler.driver import Compilation, check_model, compile_model
from convkit.compiler.options import CompileOptions
from convkit.compiler.result import CompileResult

__all__ = ["Compilation", "CompileOptions", "CompileResult", "check_model", "compile_model"]
