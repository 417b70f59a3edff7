"""Settings of `convkit check` in a project's `convkit.toml` or `[tool.convkit]` of its pyproject.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from convkit.diagnostics import Location, did_you_mean, error

_FILES = ("convkit.toml", "pyproject.toml")
MODEL = "model"
"""The table of settings of single models."""

_OF_ONE_MODEL = ("input", "freeze", "weights", "trust")
_PATHS = ("models", "baseline", "weights")  # relative to the file that names them
_NOT_SET = ("config", "debug", "help")


def find_config(folder: Path) -> Path | None:
    """The nearest file with settings in `folder` or above it."""
    for parent in (folder, *folder.parents):
        for name in _FILES:
            path = parent / name
            if path.is_file() and (name != "pyproject.toml" or "convkit" in _read(path).get("tool", {})):
                return path
    return None


def load_config(path: Path, command: click.Command) -> dict[str, Any]:
    """The settings of a file, by the names of `command`'s parameters.

    A setting is called as the option is (`fail-on`); `models` and `targets` are lists. Raises
    ConvkitError "bad-config".
    """
    body = _read(path)
    if path.name == "pyproject.toml":
        body = body.get("tool", {}).get("convkit", {})
    body = {key: value for key, value in body.items() if key != MODEL}
    return _named(path, body, _settings(command))


def load_model_config(path: Path, command: click.Command) -> dict[str, dict[str, Any]]:
    """The settings of single models: the tables `model."PATH"`, by the resolved paths they are for.

    What can be set is how a model is read: `input`, `freeze`, `weights`, `trust`. Raises ConvkitError
    "bad-config".
    """
    body = _read(path)
    if path.name == "pyproject.toml":
        body = body.get("tool", {}).get("convkit", {})
    tables = body.get(MODEL, {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise error("bad-config", f'{MODEL} holds tables: [{MODEL}."net.onnx"]', location=Location(str(path)))
    names = {name: param for name, param in _settings(command).items() if name in _OF_ONE_MODEL}
    found = {}
    for pattern, table in tables.items():
        settings = _named(path, table, names)
        for file in _expand(path, MODEL, pattern):
            found[str(Path(file).resolve())] = settings
    return found


def _named(path: Path, body: Mapping[str, Any], names: Mapping[str, click.Parameter]) -> dict[str, Any]:
    """Settings by the names of the parameters they set."""
    found: dict[str, Any] = {}
    for key, value in body.items():
        if key not in names:
            raise error(
                "bad-config",
                f"there is no setting {key!r}",
                location=Location(str(path)),
                help=did_you_mean(key, names) or f"the settings are {', '.join(sorted(names))}",
            )
        param = names[key]
        values = value if isinstance(value, list) else [value]
        if key in _PATHS:
            values = [expanded for text in values for expanded in _expand(path, key, str(text))]
        found[param.name or key] = (
            values if param.nargs != 1 or getattr(param, "multiple", False) else values[0]
        )
    return found


def _settings(command: click.Command) -> Mapping[str, Any]:
    """Parameters by the name of their setting: the option's long name, or the argument's own."""
    names: dict[str, click.Parameter] = {}
    for param in command.params:
        long = [opt[2:] for opt in param.opts if opt.startswith("--")]
        name = "targets" if param.name == "targets" else long[0] if long else param.name or ""
        if name not in _NOT_SET:
            names[name] = param
    return names


def _expand(path: Path, key: str, text: str) -> list[str]:
    """A path, or the paths that a pattern stands for, relative to the settings' folder."""
    if not any(sign in text for sign in "*?["):
        return [str(path.parent / text)]
    found = sorted(str(p) for p in path.parent.glob(text))
    if not found:
        raise error("bad-config", f"{key}: no file matches {text!r}", location=Location(str(path)))
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as problem:
        raise error("bad-config", str(problem), location=Location(str(path))) from problem
    except (OSError, UnicodeDecodeError) as problem:
        raise error("bad-config", f"cannot be read: {problem}", location=Location(str(path))) from problem
