"""How the accelerator's log is read and graphs are cut into operators; no accelerator is needed here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.dialects.tflite.writer import serialize
from convkit.verify.isolate import folded_constants, isolate
from convkit.verify.litert_gpu import parse_answer
from convkit.verify.vulkan import VulkanSetup, find_vulkan

F32 = np.dtype(np.float32)
LOG = """INFO: [compiled_model.cc:829] Flatbuffer model initialized directly from incoming litert model.
ERROR: Following operations are not supported by GPU delegate:
GATHER: Only support 1D indices
RESHAPE: Tensor dimensions must be less than 5. v
RESHAPE: another reason: with a colon
2 operations will run on the GPU, and the remaining 6 operations will run on the CPU.
I0000 00:00:1 6607 delegate_kernel.cc:984] Initializing WebGPU-based API from graph.
"""


def _said(log: str, **answer: object) -> dict[str, object]:
    return {"accelerated": False, "error": None, "run_error": None, "log": log, **answer}


def test_refusals_and_the_split_are_read_from_the_log() -> None:
    answer = parse_answer(_said(LOG), 8, Path("absent.npz"))
    assert answer.refused == {
        "GATHER": ("Only support 1D indices",),
        "RESHAPE": ("Tensor dimensions must be less than 5. v", "another reason: with a colon"),
    }
    assert (answer.ops_on_gpu, answer.ops_on_cpu, answer.fully_accelerated) == (2, 6, False)


def test_a_model_that_the_cpu_delegate_completes_is_not_whole_on_the_gpu() -> None:
    log = LOG.replace("2 operations", "No operations").replace("the remaining 6", "all 8")
    answer = parse_answer(_said(log, accelerated=True), 8, Path("absent.npz"))
    assert (answer.ops_on_gpu, answer.ops_on_cpu, answer.fully_accelerated) == (0, 8, False)


def test_a_failure_to_prepare_keeps_the_words_of_the_log() -> None:
    log = "INFO: fine\nERROR: Node number 3 (TILE) failed to prepare.\n"
    answer = parse_answer(_said(log, error="Failed to modify\n graph"), 4, Path("absent.npz"))
    assert answer.error == "ERROR: Node number 3 (TILE) failed to prepare. | Failed to modify graph"
    assert (answer.ops_on_gpu, answer.ops_on_cpu, answer.fully_accelerated) == (0, 4, False)


def _half_weight_mul() -> Graph:
    x = Tensor("x", (1, 4), F32)
    half = Tensor("w16", (1, 4), np.dtype(np.float16), np.ones((1, 4), np.float16))
    w, y, z = Tensor("w", (1, 4), F32), Tensor("y", (1, 4), F32), Tensor("z", (1, 4), F32)
    ops = [Op("DEQUANTIZE", [half], [w]), Op("MUL", [x, w], [y]), Op("RELU", [y], [z])]
    return Graph([x], [z], ops, ["x"], ["z"])


def test_an_isolated_operator_keeps_its_folded_constants() -> None:
    graph = _half_weight_mul()
    alone = isolate(graph.ops[1], folded_constants(graph))
    assert [op.code for op in alone.ops] == ["DEQUANTIZE", "MUL"]
    assert [t.shape for t in alone.inputs] == [(1, 4)]
    assert alone.ops[0].inputs[0] is not None
    assert alone.ops[0].inputs[0].dtype == np.float16
    assert [op.code for op in isolate(graph.ops[2], folded_constants(graph)).ops] == ["RELU"]


def test_equal_operators_isolate_to_equal_bytes() -> None:
    one, two = _half_weight_mul(), _half_weight_mul()
    two.ops[1].outputs[0].name = "renamed"
    assert bytes(serialize(isolate(one.ops[1], folded_constants(one)))) == bytes(
        serialize(isolate(two.ops[1], folded_constants(two)))
    )


def test_swiftshader_of_a_browser_is_found_with_its_loader(tmp_path: Path, monkeypatch) -> None:
    for variable in ("VK_ICD_FILENAMES", "VK_DRIVER_FILES", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    for name in ("libvulkan.so.1", "vk_swiftshader_icd.json"):
        (tmp_path / name).touch()
    setup = find_vulkan([str(tmp_path)], [])
    assert isinstance(setup, VulkanSetup)
    assert setup.loader == str(tmp_path / "libvulkan.so.1")
    assert setup.environment["VK_ICD_FILENAMES"] == str(tmp_path / "vk_swiftshader_icd.json")
    assert setup.environment["XDG_RUNTIME_DIR"]


def test_the_users_driver_wins_and_a_bare_machine_is_told_what_it_lacks(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("ctypes.util.find_library", lambda name: "libvulkan.so.1")
    monkeypatch.delenv("VK_DRIVER_FILES", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/0")
    monkeypatch.setenv("VK_ICD_FILENAMES", "mine.json")
    assert find_vulkan([str(tmp_path)], []) == VulkanSetup({}, None)
    monkeypatch.delenv("VK_ICD_FILENAMES")
    missing = find_vulkan([str(tmp_path)], [])
    assert missing == "no Vulkan driver; install the package chromium (SwiftShader) or mesa-vulkan-drivers"
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    assert "install the package libvulkan1" in str(find_vulkan([str(tmp_path)], []))
