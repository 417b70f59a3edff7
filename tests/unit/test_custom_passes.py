"""The user's own rewrites and passes: found in files, run, and their failures told."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from convkit.diagnostics import ConvkitError
from convkit.ir.origin import Origin, origin_of, set_origin
from convkit.passes import graphsurgeon_pass, load_passes
from tests.conftest import REPOSITORY
from tests.unit.rewriting import Net, ops

_REWRITE = """
from convkit.rewrite import Exactness, Rewrite

class Base(Rewrite):
    exactness = Exactness.BITEXACT

class DropDoubleNeg(Base):
    id, name, law = "MY-1", "drop-double-neg", "Neg(Neg(x)) = x"
    def pattern(self, op, x):
        return op.Neg(op.Neg(x))
    def rewrite(self, rw, match, **facts):
        return match["x"]
"""


def test_an_entry_point_is_loaded_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "mypkg-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mypkg\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[convkit.passes]\nmy-laws = my_laws_module\n")
    (tmp_path / "my_laws_module.py").write_text(_REWRITE)
    monkeypatch.syspath_prepend(str(tmp_path))
    (found,) = load_passes("my-laws")
    assert found.name == "drop-double-neg"
    sys.modules.pop("my_laws_module")
    with pytest.raises(ConvkitError, match="did you mean my-laws"):
        load_passes("my-law")


def _relu_mul() -> ir.Model:
    net = Net()
    return net.model(net.Tanh(net.Mul(net.Relu(net.input(1, 3)), net.const(np.float32(2)))))


def test_graphsurgeon_function_runs_as_a_pass() -> None:
    pytest.importorskip("onnx_graphsurgeon")
    (double,) = load_passes(REPOSITORY / "examples/graphsurgeon_pass.py")
    model = _relu_mul()
    for node in model.graph:
        set_origin(node, Origin(nodes=(f"was {node.op_type}",)))
    assert double.name == "double-by-adding"
    double.run(model)
    assert ops(model) == ["Relu", "Add", "Tanh"]
    assert [origin_of(node).nodes for node in model.graph] == [("was Relu",), ("was Mul",), ("was Tanh",)]


def test_graphsurgeon_failure_points_at_the_line() -> None:
    pytest.importorskip("onnx_graphsurgeon")

    @graphsurgeon_pass
    def breaks(graph):
        raise RuntimeError("no\nway")

    with pytest.raises(ConvkitError) as caught:
        breaks.run(_relu_mul())
    (found,) = caught.value.diagnostics
    assert found.message == "pass 'breaks': RuntimeError: no way"
    assert found.location is not None
    assert found.location.file == __file__


def test_graphsurgeon_must_keep_the_interface() -> None:
    pytest.importorskip("onnx_graphsurgeon")

    @graphsurgeon_pass
    def renames(graph):
        graph.outputs[0].name = "other"

    with pytest.raises(ConvkitError, match="interface-changed"):
        renames.run(_relu_mul())
