"""PyTorch in: a module with its inputs, an ExportedProgram, a TorchScript archive, or code.

The exporter's graph is taken over in memory, weights shared. The module, in eval mode, is the reference.
"""

from __future__ import annotations

import inspect
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.diagnostics import Location, did_you_mean, error
from convkit.frontends.formats import Format
from convkit.frontends.imported import Imported, ImportOptions
from convkit.frontends.onnx import load_onnx
from convkit.frontends.pytorch_code import make_module, need_torch
from convkit.frontends.pytorch_errors import export_failed
from convkit.frontends.pytorch_origins import note_calls
from convkit.verify.runners import RunError

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""How a module is called: positional arguments, and arguments by name."""


def load_pytorch(source: Any, kind: Format, options: ImportOptions) -> Imported:
    """Import what torch made. Raises ConvkitError "export-failed", pointing at the user's source line, where
    the exporter cannot follow the module, and "example-inputs" where nothing says what its inputs are.
    """
    need_torch()
    if kind is Format.TORCH_CODE:
        module, examples = make_module(source, options.weights)
        given = options.example_inputs if options.example_inputs is not None else examples
        return _from_module(module, replace(options, example_inputs=given))
    if kind is Format.TORCH_MODULE:
        return _from_module(source, options)
    if kind is Format.TORCHSCRIPT:
        return _from_script(source, options)
    return _from_exported(source, options)


def _from_module(module: Any, options: ImportOptions) -> Imported:
    import torch

    call = _call_of(module, options)
    with _in_eval(module), _quietly(), torch.no_grad():
        try:
            program = torch.export.export(module, call[0], call[1], strict=False)
        except Exception as failed:
            raise export_failed(failed) from failed
    model = _to_onnx(program, options)
    return _imported(model, Format.TORCH_MODULE, options, _Eager(module, call, model))


def _from_exported(source: Any, options: ImportOptions) -> Imported:
    import torch

    program = source if isinstance(source, torch.export.ExportedProgram) else _load_exported(source)
    if program.example_inputs is None and options.example_inputs is None:
        raise error(
            "example-inputs", "the exported program holds no example inputs", help="export it with them"
        )
    call = program.example_inputs or _call_of(program.module(), options)
    model = _to_onnx(program, options)
    return _imported(model, Format.TORCH_EXPORTED, options, _Eager(program.module(), call, model))


def _load_exported(path: str | os.PathLike[str]) -> Any:
    """An archive of torch.export, no pickle in it executed."""
    import torch

    was = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        with _quietly():
            return torch.export.load(os.fspath(path))
    except Exception as broken:
        raise _unreadable(path, broken) from broken
    finally:
        if was is None:
            del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        else:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = was


def _unreadable(path: str | os.PathLike[str], broken: BaseException) -> Exception:
    why = str(broken).strip().split("\n")[0] or type(broken).__name__
    return error("bad-model", f"torch cannot read the file: {why}", location=Location(os.fspath(path)))


def _from_script(source: Any, options: ImportOptions) -> Imported:
    import torch

    module = source
    if not isinstance(source, torch.jit.ScriptModule):
        try:
            with _quietly():
                module = torch.jit.load(os.fspath(source), map_location="cpu")
        except (RuntimeError, ValueError, OSError) as broken:
            raise _unreadable(source, broken) from broken
    module.eval()
    call = _call_of(module, options)
    names = [a.name for a in module.forward.schema.arguments if a.name != "self"][: len(call[0])]
    tensors = [name for name, value in zip(names, call[0], strict=True) if isinstance(value, torch.Tensor)]
    sink = io.BytesIO()
    with _quietly(), _natively_quiet(), torch.no_grad():
        try:
            torch.onnx.export(module, call[0], sink, dynamo=False, opset_version=17, input_names=tensors)
        except Exception as failed:
            raise export_failed(failed) from failed
    model = load_onnx(sink.getvalue())
    return _imported(model, Format.TORCHSCRIPT, options, _Eager(module, call, model))


def _to_onnx(program: Any, options: ImportOptions) -> ir.Model:
    import torch

    with _quietly(), torch.no_grad():
        try:
            made = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                custom_translation_table=dict(options.translations) or None,
            )
        except Exception as failed:
            raise export_failed(failed, program) from failed
    model: ir.Model = made.model
    note_calls(model, program)
    return model


def _imported(model: ir.Model, kind: Format, options: ImportOptions, reference: _Eager) -> Imported:
    """`reference` knows the model's inputs by the names they have here, before some are frozen."""
    inputs = {v.name for v in model.graph.inputs}
    frozen = {name: value for name, value in options.freeze.items() if name in inputs}
    return Imported(load_onnx(model, None, frozen), kind.value, reference)


class _Eager:
    """The module itself, run eagerly on the CPU in eval mode."""

    def __init__(self, module: Any, call: Call, model: ir.Model) -> None:
        import torch
        from torch.utils import _pytree as pytree

        self.module = module
        self._leaves, self._spec = pytree.tree_flatten(call)
        self._places = [i for i, leaf in enumerate(self._leaves) if isinstance(leaf, torch.Tensor)]
        self._inputs = [v.name or "" for v in model.graph.inputs]
        self._outputs = [v.name or "" for v in model.graph.outputs]
        self.description = f"torch {version('torch')} (eager)"
        if len(self._places) != len(self._inputs):
            raise error(
                "export-failed",
                f"the module takes {len(self._places)} tensors, the exported graph {len(self._inputs)}",
            )

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by the imported model's names."""
        import torch
        from torch.utils import _pytree as pytree

        leaves = list(self._leaves)
        for place, name in zip(self._places, self._inputs, strict=True):
            example = leaves[place]
            array = np.array(inputs[name])  # torch wants an array of its own that it may write to
            leaves[place] = torch.from_numpy(array).to(example.dtype).reshape(example.shape)
        args, kwargs = pytree.tree_unflatten(leaves, self._spec)
        with _in_eval(self.module), torch.no_grad():
            try:
                found = self.module(*args, **kwargs)
            except (RuntimeError, ValueError, IndexError, TypeError) as failed:
                raise RunError(str(failed)) from failed
        outputs = [leaf for leaf in pytree.tree_leaves(found) if isinstance(leaf, torch.Tensor)]
        if len(outputs) != len(self._outputs):
            raise RunError(
                f"the module gives {len(outputs)} tensors, the exported graph {len(self._outputs)}"
            )
        return dict(zip(self._outputs, (t.detach().cpu().numpy() for t in outputs), strict=True))


def _call_of(module: Any, options: ImportOptions) -> Call:
    """The call to export: the user's own inputs, or random ones of the shapes given by name."""
    import torch

    examples = options.example_inputs
    if isinstance(examples, torch.Tensor):
        return (examples,), {}
    if isinstance(examples, Mapping):
        return (), dict(examples)
    if examples is not None:
        return tuple(examples), {}
    names, optional = _parameters(module)
    if not options.inputs:
        listed = " ".join(f"--input {name}:1x3x224x224" for name in names if name not in optional)
        raise error(
            "example-inputs",
            "the shapes of the module's inputs are not known",
            help=f"give them: {listed or '--input x:1x3x224x224'}, or in Python example_inputs=(...,)",
        )
    for name in (*options.inputs, *options.freeze):
        if name not in names:
            near = did_you_mean(name, names) or f"its inputs are: {', '.join(names)}"
            raise error("unknown-input", f"the module's forward has no parameter {name!r}", help=near)
    wanted = [n for n in names if n in options.inputs or n in options.freeze or n not in optional]
    missing = [n for n in wanted if n not in options.inputs and n not in options.freeze]
    if missing:
        raise error(
            "example-inputs", f"no shape is given for {', '.join(missing)}", help="give it with --input"
        )
    made = {n: _example(n, options) for n in wanted}
    if wanted == names[: len(wanted)]:
        return tuple(made.values()), {}
    return (), made


def _parameters(module: Any) -> tuple[list[str], set[str]]:
    """The names of forward's parameters in order, and which of them have a default."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        found = [a for a in module.forward.schema.arguments if a.name != "self"]
        return [a.name for a in found], {a.name for a in found if a.has_default_value()}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = [p for p in inspect.signature(module.forward).parameters.values() if p.kind in kinds]
    return [p.name for p in parameters], {p.name for p in parameters if p.default is not p.empty}


def _example(name: str, options: ImportOptions) -> Any:
    """A tensor of the shape and type given (float32), or the value that an argument is frozen at."""
    import torch

    if name not in options.inputs:
        return options.freeze[name]
    dtype = getattr(torch, options.dtypes.get(name, "float32"))
    shape: Sequence[int] = tuple(options.inputs[name])
    generator = torch.Generator().manual_seed(0)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 2, shape, generator=generator).to(dtype)


@contextmanager
def _in_eval(module: Any) -> Iterator[None]:
    """The module in eval mode, and afterwards as it was; what was exported is in its mode for good."""
    was = [m for m in module.modules() if m.training]
    try:
        module.eval()
    except NotImplementedError:
        was = []
    try:
        yield
    finally:
        for part in was:
            part.training = True


@contextmanager
def _natively_quiet() -> Iterator[None]:
    """What native code writes to the file descriptors 1 and 2 meanwhile goes nowhere."""
    saved = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        for descriptor, copy in enumerate(saved, 1):
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(nowhere)


@contextmanager
def _quietly() -> Iterator[None]:
    """What the exporter prints, logs and warns of is no message of convkit's."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        was = logging.root.manager.disable
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(was)
