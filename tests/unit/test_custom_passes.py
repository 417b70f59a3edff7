"""The user's own rewrites and passes: found in files, run, and their failures told."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from convkit.diagnostics import ConvkitError
from convkit.ir.origin import Origin, origin_of, set_origin
from convkit.passes.custom import load_passes
from convkit.rewrite import apply_rewrites
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


def _file(folder: Path, text: str) -> Path:
    path = folder / "mine.py"
    path.write_text(text)
    return path


def test_rewrites_of_a_file_are_found_and_apply(tmp_path: Path) -> None:
    (found,) = load_passes(_file(tmp_path, _REWRITE))
    assert found.name == "drop-double-neg"
    net = Net()
    model = net.model(net.Relu(net.Neg(net.Neg(net.input(2)))))
    apply_rewrites(model.graph, [found])
    assert ops(model) == ["Relu"]


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("import convkit\n", "no-passes", None),
        ("x = 1\ny = x +\n", "user-code-failed", 2),
        ("def f():\n    raise KeyError('k')\n\nf()\n", "user-code-failed", 2),
    ],
)
def test_a_bad_file_is_a_diagnostic(tmp_path: Path, text: str, code: str, line: int | None) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(ConvkitError) as caught:
        load_passes(path)
    (found,) = caught.value.diagnostics
    assert found.code == code
    assert found.location is not None
    assert (found.location.file, found.location.line) == (str(path), line)


def test_a_missing_file_is_a_diagnostic(tmp_path: Path) -> None:
    with pytest.raises(ConvkitError, match="no-such-passes"):
        load_passes(tmp_path / "none.py")


def test_an_entry_point_is_loaded_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "mypkg-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mypkg\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[convkit.passes]\nmy-laws = my_laws_module\n")
    (tmp_path / "my_laws_module.py").write_text(_REWRITE)
    monkeypatch.syspath_prepend(str(tmp_path))
    (found,) = load_passes("my-laws")
    assert found.id == "MY-1"
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
    assert double.run(model)
    assert ops(model) == ["Relu", "Add", "Tanh"]
    assert [origin_of(node).nodes for node in model.graph] == [("was Relu",), ("was Mul",), ("was Tanh",)]


def test_graphsurgeon_failure_points_at_the_line() -> None:
    pytest.importorskip("onnx_graphsurgeon")
    from convkit.passes.graphsurgeon import graphsurgeon_pass

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
    from convkit.passes.graphsurgeon import graphsurgeon_pass

    @graphsurgeon_pass
    def renames(graph):
        graph.outputs[0].name = "other"

    with pytest.raises(ConvkitError, match="graphsurgeon-interface"):
        renames.run(_relu_mul())
