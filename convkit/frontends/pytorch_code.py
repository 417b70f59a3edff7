"""A PyTorch module from the user's code (`network.py:Network`, `package.module:factory`), and its weights."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convkit.diagnostics import ConvkitError, ExitCode, Location, did_you_mean, error
from convkit.frontends.formats import code_reference

_NESTED = ("state_dict", "model_state_dict", "params_ema", "params", "model", "net", "weights")
"""Under which name checkpoints keep the state beside other things, the most telling first."""


def need_torch() -> None:
    """Raise ConvkitError "missing-extra" where torch is not installed."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("onnxscript") is None:
        raise _missing("reading a PyTorch model needs torch and onnxscript")


def _missing(why: str) -> ConvkitError:
    return error("missing-extra", why, help="pip install 'convkit[torch]'", exit_code=ExitCode.TOOLCHAIN)


def make_module(source: Any, weights: Path | None) -> tuple[Any, Any]:
    """The module that `module.py:Name` makes (a class or function called without arguments, or a module),
    and its example inputs where it gives (module, example_inputs). Random weights are those of seed 0.

    Raises ConvkitError that points at the user's line where the code fails.
    """
    import torch

    reference = code_reference(source)
    assert reference is not None
    place, name = reference
    torch.manual_seed(0)
    with _importable(place):
        made: Any = _guarded(place, lambda: _import(place))
        for part in name.split("."):
            if not hasattr(made, part):
                known = [n for n, v in vars(made).items() if callable(v)]
                raise error("no-such-name", f"{place} has no {part!r}", help=did_you_mean(part, known))
            made = getattr(made, part)
        if not isinstance(made, torch.nn.Module):
            made = _guarded(place, made)
    module, examples = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, torch.nn.Module):
        raise error("not-a-module", f"{source} gives a {type(module).__name__}, not a torch.nn.Module")
    if weights is not None:
        load_weights(module, weights)
    return module, examples


@contextmanager
def _importable(place: str) -> Iterator[None]:
    """The folder of the code first on the path, as when Python runs it."""
    folder = os.path.dirname(os.path.abspath(place)) if place.endswith(".py") else os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _import(place: str) -> Any:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    if not os.path.isfile(place):
        raise error("no-such-file", "there is no such file", location=Location(place))
    name = f"_convkit_code_{Path(place).stem}"
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _guarded(place: str, run: Callable[[], Any]) -> Any:
    """What the user's code gives; an exception in it is told with its line."""
    try:
        return run()
    except ConvkitError:
        raise
    except Exception as failed:
        frames = [
            f for f in traceback.extract_tb(failed.__traceback__) if "/convkit/frontends/" not in f.filename
        ]
        own = [f for f in frames if "-packages" not in f.filename and "<frozen" not in f.filename]
        where = Location(own[-1].filename, own[-1].lineno) if own else Location(place)
        raise error(
            "code-failed",
            f"the code that makes the module fails: {type(failed).__name__}: {failed}",
            location=where,
            help="name a class or function that can be called without arguments",
        ) from failed


def load_weights(module: Any, path: Path) -> None:
    """Load a .pt or .safetensors state into `module`; every name must match. No pickle is executed.

    Raises ConvkitError "weights-mismatch" naming what is missing, left over or of another shape.
    """
    where = Location(str(path))
    state = _state_of(path)
    if state and all(name.startswith("module.") for name in state):  # saved from DataParallel
        state = {name[len("module.") :]: tensor for name, tensor in state.items()}
    own = module.state_dict()
    missing, left = [n for n in own if n not in state], [n for n in state if n not in own]
    missing = [n for n in missing if not n.endswith("num_batches_tracked")]
    unlike = [n for n in own if n in state and own[n].shape != state[n].shape]
    found = {"not in the file": missing, "not in the module": left, "of another shape": unlike}
    if any(found.values()):
        notes = tuple(
            f"{what}: {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
            for what, names in found.items()
            if names
        )
        raise error("weights-mismatch", "the weights do not fit the module", location=where, notes=notes)
    module.load_state_dict(state, strict=False)


def _state_of(path: Path) -> dict[str, Any]:
    import torch

    where = Location(str(path))
    if not path.is_file():
        raise error("no-such-file", "there is no such file", location=where)
    if path.suffix == ".safetensors":
        if importlib.util.find_spec("safetensors") is None:
            raise _missing("reading .safetensors needs safetensors")
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except SafetensorError as broken:
            raise error("bad-weights", f"the file is malformed: {broken}", location=where) from broken
    import pickle

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as broken:
        why = str(broken).strip().split("\n")[0]
        if "Weights only load failed" in why:
            why = "it pickles more than tensors, which would run code of the file's"
        raise error("bad-weights", f"torch cannot read the weights: {why}", location=where,
                    help="save them by torch.save(module.state_dict(), path)") from broken  # fmt: skip
    for name in _NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
            break
    state = (
        {n: t for n, t in found.items() if isinstance(t, torch.Tensor)} if isinstance(found, Mapping) else {}
    )
    if not state:
        raise error("bad-weights", "the file holds no state of a module", location=where)
    return state
