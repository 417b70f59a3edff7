"""The public API imports lazily and keeps its promises about import cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

import convkit


def test_every_public_name_resolves() -> None:
    for name in convkit.__all__:
        assert getattr(convkit, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = convkit.nonsense


def test_import_loads_nothing_heavy() -> None:
    code = "import convkit, sys; print([m for m in ('numpy', 'onnx', 'torch', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
