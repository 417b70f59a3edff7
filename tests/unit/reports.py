"""Reports for tests: one that is whole on the accelerator, one that is not."""

from __future__ import annotations

from convkit.report import (
    Artifact,
    Finding,
    InterfaceTensor,
    ModelIdentity,
    OpEntry,
    OpVerdict,
    OracleAnswer,
    OriginEntry,
    OutputError,
    Partition,
    QuantizationEntry,
    Reason,
    Report,
    RewriteEntry,
    TargetIdentity,
    Verification,
)

SHA = "ab" * 32
GOOD = OutputError("image", 196608, 3.1e-7, 1.2e-7, 139.2, 137.9, 1.0, 0, True)
_GPU = TargetIdentity("mali-gpu", "Arm Mali through the LiteRT GPU delegate", "source", "the GPU")


def whole() -> Report:
    """A small network, every operator accelerated, verified, and confirmed by the oracle."""
    ops = tuple(
        OpEntry(i, name, OpVerdict.ACCELERATED, macs=macs, bytes=size, partition=0)
        for i, (name, macs, size) in enumerate(
            [("CONV_2D", 113_246_208, 3_200_000), ("PRELU", 0, 6_291_456), ("DEPTH_TO_SPACE", 0, 6_291_456)]
        )
    )
    return Report(
        model=ModelIdentity("models/unet.onnx", SHA, "onnx", 20, "pytorch 2.13.0"),
        target=_GPU,
        ops=ops,
        inputs=(InterfaceTensor("x", (1, 3, 256, 256), "float32"),),
        outputs=(InterfaceTensor("image", (1, 512, 512, 3), "float32", "nhwc"),),
        partitions=(Partition(0, True, (0, 1, 2), 113_246_208),),
        rewrites=(
            RewriteEntry(
                "CK-FUSE-001", "BatchNormalization(Conv(x, w, b)) = Conv(x, w', b')", "reassociated", 12
            ),
            RewriteEntry("CK-LEGAL-004", "ConvTranspose = DepthToSpace(Conv)", "bitexact", 3, cure=True),
        ),
        verification=Verification(
            "onnxruntime 1.31.1", "LiteRT 2.3.0", "random inputs, seed 0", 1e-5, (GOOD,)
        ),
        oracle=OracleAnswer("litert-gpu", True, 3, 3, agreement=1.0, outputs=(GOOD,)),
        artifacts=(Artifact("unet-mali-gpu/unet.tflite", 1_234_567, SHA),),
        timings={"load": 0.11, "rewrite": 0.32, "lower": 0.12, "verify": 0.2, "total": 0.81},
        options={"precision": "fp32"},
    )


def partial() -> Report:
    """A transformer with fallbacks by rule, a stranded and an undecided operator, and a wrong output."""
    gather = Reason(
        "LRT-GATHER-001",
        "indices have rank 2; the delegate takes 1-D indices",
        sources=("LiteRT f677904, ml_drift_delegate/tflite/model_builder.cc",),
        fixes=("gather-to-slice",),
    )
    rank = Reason(
        "LRT-RANK-001", "tensor of rank 5: 1x8x8x8x8", sources=("LiteRT f677904",), severity="reject"
    )
    slow = Reason(
        "MALI-CONV-001", "grouped convolution with 3 channels per group is split", "slow", ("LiteRT f677904",)
    )
    ops: list[OpEntry] = [
        OpEntry(0, "CONV_2D", OpVerdict.ACCELERATED, (slow,), macs=900_000_000, bytes=9_000_000)
    ]
    for i in range(12):
        origin = OriginEntry(
            (f"n{i}",), (f"blocks.{i}.attn.qkv",), (f"models/vit.py:{100 + i}",), ("CK-FUSE-001",)
        )
        ops.append(OpEntry(1 + i, "GATHER", OpVerdict.FALLBACK, (gather,), origin, bytes=600_000))
    ops.append(OpEntry(13, "RESHAPE", OpVerdict.FALLBACK, (rank, gather), bytes=40_000))
    ops.append(OpEntry(14, "FULLY_CONNECTED", OpVerdict.STRANDED, macs=120_000_000, bytes=2_000_000))
    ops.append(OpEntry(15, "TILE", OpVerdict.UNDECIDED, bytes=12))
    bad = OutputError("classes", 10, 0.0, 0.0, None, None, None, 3, False)
    return Report(
        model=ModelIdentity("vit[tiny].onnx", SHA, "onnx", 18),
        target=_GPU,
        ops=tuple(ops),
        inputs=(InterfaceTensor("x", (1, 3, 224, 224), "int8", "keep", QuantizationEntry((0.5,), (3,))),),
        partitions=(Partition(0, True, (0,), 900_000_000), Partition(1, False, tuple(range(1, 16)))),
        rewrites=(RewriteEntry("CK-APPROX-001", "Gelu(x) ~ tanh form", "approximate", 12),),
        verification=Verification("onnxruntime 1.31.1", "LiteRT 2.3.0", "data.npz", 1e-5, (GOOD, bad)),
        oracle=OracleAnswer("litert-gpu", False, 2, 16, (3,), 15 / 16, ("#3 GATHER: we accept, it refuses",)),
        findings=(Finding("float16-range", "constant -1e9 does not fit float16"),),
    )
