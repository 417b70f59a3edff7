"""Real models of every format: each compiles and agrees with its own runtime, or is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

import convkit
from convkit.diagnostics import ConvkitError
from convkit.frontends import tensorflow

REFUSED = {
    "tflite/audio_preprocessor_int8.tflite": "SignalFilterBank",
    "torch/FSRCNN-x2.pt": "holds weights, but not the network",
    "torch/alike-t.pth": "holds weights, but not the network",
    "torch/blazeface.pth": "holds weights, but not the network",
    "torch/crepe_tiny.pth": "holds weights, but not the network",
    "torch/iat_lol.pth": "holds weights, but not the network",
    "torch/mtcnn_pnet.pt": "holds weights, but not the network",
    "torch/rfdn_baseline.pth": "holds weights, but not the network",
    "torch/silero_vad.jit": "shapes of the module's inputs are not known",
    "torch/stories260K.pt": "holds weights, but not the network",
    "torch/team18_bsrn.pth": "holds weights, but not the network",
}
READ = [
    "tflite/M-LSD_320_tiny_fp16.tflite",
    "tflite/custom_fastestdet.tflite",
    "tflite/deeplabv3_257.tflite",
    "tflite/deeplabv3_mnv2_dm05_pascal_quant.tflite",
    "tflite/dtln_model_quant_1.tflite",
    "tflite/dtln_noise_suppression.tflite",
    "tflite/face_detection_short_range.tflite",
    "tflite/face_landmark.tflite",
    "tflite/hair_segmentation.tflite",
    "tflite/hand_landmark_lite.tflite",
    "tflite/har_int8.tflite",
    "tflite/hey_jarvis.tflite",
    "tflite/keyword_scrambled.tflite",
    "tflite/kws_ref_model.tflite",
    "tflite/mcunet_vww.tflite",
    "tflite/mobilenet_v1_0.25_224_quant.tflite",
    "tflite/movie_review.tflite",
    "tflite/nmp.tflite",
    "tflite/palm_detection_lite.tflite",
    "tflite/pretrainedResnet_quant.tflite",
    "tflite/prisma-net_uint8.tflite",
    "tflite/qwen_fc_blockwise_quantized.tflite",
    "tflite/recommendation_rnn_i10o100.tflite",
    "tflite/rrn_16.tflite",
    "tflite/sdpa_composite.tflite",
    "tflite/selfie_segmentation.tflite",
    "tflite/str_ww_ref_model.tflite",
    "tflite/trained_lstm.tflite",
    "tflite/trained_lstm_int8.tflite",
    "tflite/visqol_lattice_raw.tflite",
    "torch/linear.pt2",
]
BY_TENSORFLOW = [
    "keras/fer2013_mini_XCEPTION.hdf5",
    "keras/pretrainedResnet.h5",
    "keras/str_ww_ref_model.h5",
    "savedmodel/kws_ref_model",
    "savedmodel/nmp",
]


SCRIPTED = {"torch/DemoNet.pt": {"input": (1, 3, 28, 28)}}


def test_every_file_of_the_corpus_is_named_here(shared: Path) -> None:
    folders = [shared / "models" / kind for kind in ("keras", "savedmodel", "tflite", "torch")]
    every = {f"{folder.name}/{path.name}" for folder in folders for path in folder.iterdir()}
    assert every == {*REFUSED, *READ, *BY_TENSORFLOW, *SCRIPTED}


def found_in(shared: Path, name: str) -> Path:
    path = shared / "models" / name
    if not path.exists():
        pytest.skip(f"no model {path}")
    return path


def assert_agrees(path: Path, **options: object) -> None:
    verification = convkit.compile(path, "mali-gpu", **options).report.verification
    assert verification is not None
    assert verification.passed


@pytest.mark.parametrize("name", READ)
def test_it_agrees_with_its_own_runtime(shared: Path, name: str) -> None:
    if name.startswith("torch"):
        pytest.importorskip("torch")
    assert_agrees(found_in(shared, name))


@pytest.mark.parametrize("name", SCRIPTED)
def test_torchscript_agrees_with_torch(shared: Path, name: str) -> None:
    pytest.importorskip("torch")
    assert_agrees(found_in(shared, name), inputs=SCRIPTED[name])


@pytest.mark.parametrize("name", BY_TENSORFLOW)
def test_it_agrees_with_tensorflow(shared: Path, name: str) -> None:
    try:
        tensorflow.interpreter()
    except ConvkitError as missing:
        pytest.skip(missing.diagnostics[0].message)
    assert_agrees(found_in(shared, name))


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_name(shared: Path, name: str) -> None:
    if name.startswith("torch"):
        pytest.importorskip("torch")
    with pytest.raises(ConvkitError) as caught:
        convkit.load(found_in(shared, name))
    assert REFUSED[name] in str(caught.value)
