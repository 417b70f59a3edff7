"""The ONNX dialect: what a target that reads ONNX judges is the normal form itself, seen as a flat graph."""

from convkit.dialects.onnx.view import as_graph

__all__ = ["as_graph"]
