"""Loading: what is refused is refused with one clear Diagnostic; what is read keeps its origin."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from convkit.diagnostics import ConvkitError
from convkit.frontends.onnx import load_onnx
from convkit.ir.facts import constant
from convkit.ir.origin import origin_of


def model(nodes=None, inputs=None, opset=17, initializers=(), functions=(), **imports):
    nodes = nodes if nodes is not None else [helper.make_node("Relu", ["x"], ["y"], name="act")]
    inputs = inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, v) for d, v in imports.items())]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=8)


def refusal(source, inputs=None):
    with pytest.raises(ConvkitError) as caught:
        load_onnx(source, inputs)
    return caught.value.diagnostics[0]


def symbolic(shape):
    return model(inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)])


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"", "empty-file", "empty"),
        (b"hello, this is text", "not-a-model", "byte 0 is no field"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(60), "not-a-model", "TensorFlow Lite"),
        (b"version https://git-lfs.github.com/spec/v1", "not-a-model", "git lfs pull"),
        (b"\x08\x08", "not-a-model", "no graph"),
    ],
)
def test_what_is_no_model(tmp_path: Path, content: bytes, code: str, words: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    found = refusal(path)
    assert found.code == code
    assert words in found.message
    assert found.location.file == str(path)


def test_truncated_file_names_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    whole = model().SerializeToString()
    path.write_bytes(whole[:-20])
    found = refusal(path)
    assert found.code == "not-a-model"
    assert "cut short: graph at byte 2 needs" in found.message


def test_directory_and_missing_file_suggest_the_model(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(model().SerializeToString())
    assert refusal(tmp_path).help == f"did you mean {tmp_path / 'net.onnx'}?"
    found = refusal(tmp_path / "nett.onnx")
    assert found.code == "no-such-file"
    assert "net.onnx" in found.help


def test_unknown_operators_are_all_named() -> None:
    nodes = [
        helper.make_node("Relux", ["x"], ["a"]),
        helper.make_node("FastGelu", ["a"], ["y"], domain="com.microsoft"),
    ]
    with pytest.raises(ConvkitError) as caught:
        load_onnx(model(nodes, **{"com.microsoft": 1}))
    first, second = caught.value.diagnostics
    assert first.code == "unknown-operator"
    assert first.help == "did you mean Relu?"
    assert "FastGelu of domain com.microsoft" in second.message


def test_symbolic_shape_shows_what_to_type() -> None:
    found = refusal(symbolic(["n", 3, "h", -1]))
    assert found.code == "symbolic-shape"
    assert "--input x:1x3x224x224" in found.help
    loaded = load_onnx(symbolic(["n", 3, "h", -1]), {"x": (2, 3, 32, 48)})
    assert list(loaded.graph.inputs[0].shape) == [2, 3, 32, 48]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"z": (1, 3)}, "no input 'z'"),
        ({"x": (1, 3, 1)}, "has rank 2"),
        ({"x": (1, 4)}, "fixes dimension 1 of input 'x' at 3, not 4"),
        ({"x": (0, 3)}, "not positive"),
    ],
)
def test_wrong_overrides(given, words: str) -> None:
    assert words in refusal(symbolic(["n", 3]), given).message


def test_a_dimension_named_twice_is_given_once() -> None:
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 4]) for n in ("x", "z")]
    both = model([helper.make_node("Add", ["x", "z"], ["y"])], inputs)
    loaded = load_onnx(both, {"x": (7, 4)})
    assert [list(v.shape) for v in loaded.graph.inputs] == [[7, 4], [7, 4]]
    assert "elsewhere" in refusal(both, {"x": (7, 4), "z": (6, 4)}).message


def external(tmp_path: Path, **entries: str) -> Path:
    weight = numpy_helper.from_array(np.arange(3, dtype=np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        weight.external_data.add(key=key, value=value)
    path = tmp_path / "m" / "m.onnx"
    path.parent.mkdir()
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], initializers=[weight])
    path.write_bytes(proto.SerializeToString())
    (tmp_path / "outside.bin").write_bytes(bytes(64))
    (path.parent / "w.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    return path


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"location": "none.bin"}, "does not exist"),
        ({"location": "../outside.bin"}, "outside the model's folder"),
        ({"location": "/etc/hostname"}, "outside the model's folder"),
        ({"location": "w.bin", "offset": "8", "length": "12"}, "has 16 bytes"),
        ({"location": "w.bin", "length": "16"}, "need 12"),
        ({"location": "link.bin"}, "outside the model's folder"),
    ],
)
def test_external_data_stays_in_its_folder(tmp_path: Path, entries: dict[str, str], words: str) -> None:
    path = external(tmp_path, **entries)
    os.symlink(tmp_path / "outside.bin", path.parent / "link.bin")
    found = refusal(path)
    assert found.code == "external-data"
    assert words in found.message


def test_external_data_is_read_at_its_offset(tmp_path: Path) -> None:
    loaded = load_onnx(external(tmp_path, location="w.bin", offset="4", length="12"))
    np.testing.assert_array_equal(constant(loaded.graph.initializers["w"]), [1, 2, 3])


def test_undefined_value_cycle_and_malformed_tensor() -> None:
    assert refusal(model([helper.make_node("Relu", ["q"], ["y"])])).code == "undefined-value"
    loop = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    assert "cycle" in refusal(model([*loop, helper.make_node("Relu", ["b"], ["y"])])).message
    short = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], raw_data=bytes(8))
    assert (
        refusal(model([helper.make_node("Add", ["x", "w"], ["y"])], initializers=[short])).code
        == "bad-tensor"
    )


def test_opset_out_of_range() -> None:
    assert refusal(model(opset=0)).code == "unsupported-opset"
    assert refusal(model(opset=99)).code == "unsupported-opset"


def test_unordered_nodes_and_weights_among_inputs_are_fine() -> None:
    weight = numpy_helper.from_array(np.ones(3, np.float32), "w")
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3]) for n in ("x",)]
    inputs.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3]))
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Add", ["x", "w"], ["a"])]
    loaded = load_onnx(model(nodes, inputs, initializers=[weight]))
    assert [v.name for v in loaded.graph.inputs] == ["x"]
    assert [n.op_type for n in loaded.graph] == ["Add", "Relu"]


def test_origin_from_exporter_metadata() -> None:
    proto = model()
    trace = (
        'File "/site-packages/torch/nn/relu.py", line 5, in forward\n  File "net.py", line 12, in forward\n'
    )
    trace += 'File "/lib/site-packages/torch/f.py", line 9, in relu'
    for key, value in (
        ("pkg.torch.onnx.name_scopes", "['', 'encoder', 'encoder.act', 'relu']"),
        ("pkg.torch.onnx.stack_trace", trace),
    ):
        proto.graph.node[0].metadata_props.add(key=key, value=value)
    origin = origin_of(load_onnx(proto).graph[0])
    assert (origin.nodes, origin.modules, origin.sources) == (("act",), ("encoder.act",), ("net.py:12",))


def test_loading_a_model_leaves_it_alone() -> None:
    import onnx_ir as ir

    mine = ir.from_proto(symbolic(["n", 3]))
    load_onnx(mine, {"x": (1, 3)})
    assert not mine.graph.inputs[0].shape.is_static()


def weighty(dtype: type = np.float32) -> tuple[onnx.ModelProto, np.ndarray]:
    weight = np.arange(4096).reshape(2, 2048).astype(dtype)
    inputs = [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(weight.dtype), [2, 2048])]
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    return model(nodes, inputs, initializers=[numpy_helper.from_array(weight, "w")]), weight


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.int64, np.int16])
def test_large_weights_stay_in_the_file(tmp_path: Path, dtype: type) -> None:
    proto, weight = weighty(dtype)
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    found = constant(load_onnx(path).graph.initializers["w"])
    assert found is not None
    np.testing.assert_array_equal(found, weight)
    assert not found.flags.owndata
    assert not found.flags.writeable


def test_a_large_weight_of_the_wrong_size_is_named(tmp_path: Path) -> None:
    proto, _ = weighty()
    proto.graph.initializer[0].dims[0] = 3
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    assert "tensor 'w' has 16384 bytes where its type and shape need 24576" in refusal(path).message


@pytest.mark.parametrize("cut", [1, 10, 5000, 16000, 16400])
def test_cut_short_inside_the_weights(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(weighty()[0].SerializeToString()[:-cut])
    assert refusal(path).code == "not-a-model"


def test_damaged_files_never_crash(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    whole = bytearray(model().SerializeToString())
    for _ in range(300):
        broken = bytearray(whole)
        for position in random.integers(0, len(whole), random.integers(1, 4)):
            broken[position] = random.integers(0, 256)
        with suppress(ConvkitError):
            load_onnx(bytes(broken))


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (helper.make_node("Concat", ["x", "x"], ["y"]), "lacks its attribute axis"),
        (
            helper.make_node("Softmax", ["x"], ["y"], axis=1.5),
            "attribute axis of Softmax is of the wrong kind",
        ),
        (helper.make_node("Add", ["x"], ["y"]), "Add cannot have 1 inputs"),
    ],
)
def test_nodes_have_what_their_operator_needs(node: onnx.NodeProto, words: str) -> None:
    found = refusal(model([node]))
    assert found.code == "bad-node"
    assert words in found.message
    assert found.location.node == "y"
