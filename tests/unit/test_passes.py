"""Passes and pipelines: checks, hooks, a user's own passes, common subexpressions."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from convkit.compiler.watch import NumbersWatch
from convkit.diagnostics import ConvkitError
from convkit.ir.normal import normalize
from convkit.ir.origin import origin_of
from convkit.passes import (
    FunctionPass,
    PassManager,
    RewritePass,
    as_pass,
    default_pipeline,
    graphsurgeon_pass,
    load_passes,
)
from convkit.passes.base import NORMAL_FORM, Pass
from convkit.passes.fold.cse import ShareEqualNodes
from convkit.passes.pipeline import parse_pipeline
from convkit.rewrite import Exactness, Rewrite, RewriteStats
from tests.unit.rewriting import Net, assert_close, feeds_of, ops, run


class DoubleNeg(Rewrite):
    id = "CK-TEST-001"
    name = "double-neg"
    law = "-(-x) = x"
    exactness = Exactness.BITEXACT

    def pattern(self, op, x):
        return op.Neg(op.Neg(x))

    def rewrite(self, rw, match):
        return match["x"]


class Wrong(DoubleNeg):
    id = "CK-TEST-002"
    name = "wrong"

    def pattern(self, op, x):
        return op.any_of(op.Tanh(x), op.Neg(op.Neg(x)))

    def rewrite(self, rw, match):
        return rw.Abs(match["x"]) if match.root.op_type == "Tanh" else match["x"]


class WrongOnPurpose(Wrong):
    id = "CK-TEST-003"
    name = "wrong-on-purpose"
    exactness = Exactness.RETRAIN


def chain() -> ir.Model:
    """Three rights and, in the middle, one Tanh."""
    net = Net()
    x = net.input(4)
    for i in range(4):
        x = net.Neg(net.Neg(x))
        x = net.Tanh(x) if i == 2 else net.Sqrt(net.Abs(x))
    model = net.model(x)
    normalize(model)
    return model


def test_the_default_pipeline_keeps_the_numbers():
    net = Net()
    y = net.batchnorm(net.Conv(net.input(1, 3, 8, 8), net.randn(4, 3, 3, 3)))
    model = net.model(net.Relu(y))
    normalize(model)
    feeds = feeds_of(model)
    before = run(model, feeds)
    manager = PassManager(default_pipeline(), watch=NumbersWatch())
    manager.run(model)
    assert_close(before, run(model, feeds))
    assert ops(model) == ["Conv", "Relu"]
    assert manager.stats.counts == {"fuse-batchnorm": 1}


def test_the_text_of_a_pipeline():
    step = RewritePass(name="algebra", rewrites=(DoubleNeg(),), limit=4)
    assert str(step) == "algebra{limit=4}"
    assert str(PassManager([ShareEqualNodes(name="cse"), step])) == "cse,algebra{limit=4}"


def test_a_pipeline_is_read_from_text():
    passes = parse_pipeline("cse, simplify{limit=4},gather-to-slice,cse")
    assert ",".join(map(str, passes)) == "cse,simplify{limit=4},gather-to-slice,cse"
    for text, message in [
        ("cse,,fold", "no rewrite 'fold'"),
        ("cse{", "'{' is no pass"),
        ("cse{limit=4}", "has no option 'limit'"),
        ("simplify{limit=x}", "is a number, not 'x'"),
    ]:
        with pytest.raises(ConvkitError, match=message):
            parse_pipeline(text)


def test_a_broken_invariant_names_the_pass():
    class Untype(Pass):
        def run(self, model: ir.Model) -> RewriteStats:
            model.graph[0].outputs[0].shape = None
            return RewriteStats()

    with pytest.raises(ConvkitError, match="pass untype breaks the normal form") as caught:
        PassManager([Untype(name="untype")], watch=NumbersWatch()).run(chain())
    assert caught.value.diagnostics[0].location.node == "n0"


def test_rewrites_classes_functions_and_passes_become_passes():
    def rename(model: ir.Model) -> None:
        model.doc_string = "seen"

    manager = PassManager([DoubleNeg(), DoubleNeg, rename, ShareEqualNodes(name="cse")])
    assert [p.name for p in manager.passes] == ["double-neg", "double-neg", "rename", "cse"]
    model = chain()
    manager.run(model)
    assert model.doc_string == "seen"
    assert "Neg" not in ops(model)
    with pytest.raises(ConvkitError, match="is no pass"):
        as_pass(3)


def test_a_pipeline_that_lacks_an_invariant_is_refused_before_it_runs():
    class Spoil(Pass):
        preserves = frozenset()

        def run(self, model: ir.Model) -> RewriteStats:
            raise AssertionError

    with pytest.raises(ConvkitError) as caught:
        PassManager([Spoil(name="spoil"), DoubleNeg()])
    assert "pass double-neg requires " in str(caught.value)
    assert ", which spoil does not preserve" in str(caught.value)
    repair = FunctionPass(name="repair", function=lambda m: None)
    assert repair.ensures == NORMAL_FORM


def test_print_after_shows_the_graph():
    shown: list[str] = []
    PassManager([DoubleNeg()], print_after=["double-neg"], show=shown.append).run(chain())
    assert shown[0].startswith("after double-neg:\n")
    assert "%y0: f32[4] = Sqrt(" in shown[0]
    with pytest.raises(ConvkitError, match="no pass 'fold'"):
        PassManager([DoubleNeg()], print_after=["fold"])


def test_verify_each_names_the_pass():
    manager = PassManager([DoubleNeg(), Wrong()], watch=NumbersWatch())
    with pytest.raises(ConvkitError, match="pass wrong changes the model's numbers") as caught:
        manager.run(chain())
    assert caught.value.diagnostics[0].code == "wrong-numbers"
    PassManager([WrongOnPurpose(), DoubleNeg()], watch=NumbersWatch()).run(chain())


def test_bisect_names_the_application():
    with pytest.raises(ConvkitError) as caught:
        PassManager([Wrong()], watch=NumbersWatch(bisect=True)).run(chain())
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.location.node == "n10"
    assert "is number 4: CK-TEST-002 (wrong), n10 -> n10/Abs" in diagnostic.notes[0]


def write(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text))
    return path


REWRITE_FILE = """
    from convkit.rewrite import Exactness, Rewrite

    class Twice(Rewrite):
        id, name, law, exactness = "MY-001", "twice", "-(-x) = x", Exactness.BITEXACT

        def pattern(self, op, x):
            return op.Neg(op.Neg(x))

        def rewrite(self, rw, match):
            return match["x"]
"""


def test_passes_come_from_a_file(tmp_path):
    (found,) = load_passes(write(tmp_path / "mine.py", REWRITE_FILE))
    model = chain()
    stats = PassManager([found]).run(model)
    assert stats.counts == {"twice": 4}
    listed = REWRITE_FILE + "\n    def other(model): pass\n    PASSES = [other, Twice]"
    assert [p.name for p in load_passes(write(tmp_path / "list.py", listed))] == ["other", "twice"]


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("x = (1,\n", "SyntaxError: '(' was never closed", 1),
        ("a = 1\nb = a.c\n", "AttributeError: 'int' object has no attribute 'c'", 2),
        ("import no_such_module_here\n", "ModuleNotFoundError", 1),
        ("a = 1\n", "there is no Rewrite", None),
        ("PASSES = [3]\n", "is no pass", None),
    ],
)
def test_a_bad_file_is_a_diagnostic_with_its_line(tmp_path, text, message, line):
    path = write(tmp_path / "mine.py", text)
    with pytest.raises(ConvkitError, match=message.replace("(", "[(]")) as caught:
        load_passes(path)
    if line is not None:
        assert caught.value.diagnostics[0].location.line == line
    with pytest.raises(ConvkitError, match="no such file"):
        load_passes(tmp_path / "absent.py")


def test_a_graphsurgeon_function_is_a_pass():
    pytest.importorskip("onnx_graphsurgeon")

    def tanh_to_sigmoid(graph):
        for node in graph.nodes:
            if node.op == "Tanh":
                node.op = "Sigmoid"

    model = chain()
    origin = origin_of(next(n for n in model.graph if n.op_type == "Sqrt"))
    PassManager([graphsurgeon_pass(tanh_to_sigmoid)]).run(model)
    assert "Sigmoid" in ops(model)
    assert "Tanh" not in ops(model)
    assert origin_of(next(n for n in model.graph if n.op_type == "Sqrt")) == origin
    run(model, feeds_of(model))


def test_equal_nodes_are_shared():
    net = Net()
    x = net.input(2, 3)
    one, other = net.const(np.float32([1, 2, 3])), net.const(np.float32([1, 2, 3]))
    a, b = net.Exp(net.Add(x, one)), net.Exp(net.Add(x, other))
    c = net.Softmax(b, axis=0)
    model = net.model(net.Mul(a, net.Softmax(a, axis=1)), net.Mul(b, c), net.Relu(x), net.Relu(x))
    feeds = feeds_of(model)
    before = run(model, feeds)
    ShareEqualNodes(name="cse").run(model)
    assert_close(before, run(model, feeds), rounding=0)
    assert sorted(ops(model)) == ["Add", "Exp", "Mul", "Mul", "Relu", "Relu", "Softmax", "Softmax"]
    assert len(model.graph.initializers) == 1


def test_nodes_that_differ_in_a_tensor_attribute_are_not_shared():
    net = Net()
    shape = net.input(1, dtype=ir.DataType.INT64)
    filled = []
    for value in (1.0, 2.0):
        node = ir.node("ConstantOfShape", [shape], {"value": ir.tensor(np.float32([value]))})
        node.outputs[0].name = f"filled{value}"
        net.nodes.append(node)
        filled.append(node.outputs[0])
    model = net.model(*(net.Identity(v) if v.shape else v for v in filled))
    ShareEqualNodes(name="cse").run(model)
    assert len(ops(model)) == 2


def test_random_nodes_are_never_shared():
    net = Net()
    model = net.model(net.Add(net.RandomNormal(shape=[2]), net.RandomNormal(shape=[2])))
    ShareEqualNodes(name="cse").run(model)
    assert len(ops(model)) == 3
