"""Build a TensorRT engine of an ONNX file: python model.build.py MODEL.onnx OUT.engine [--fp16] [--int8]
[--memPoolSize=workspace:MB | --workspace=MB]. Runs on the device, with the TensorRT that is installed there
(8 or newer), and needs nothing else."""

import argparse
import sys


def main():
    """Parse, build, write; the first line printed is TensorRT's version."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("model")
    options.add_argument("engine")
    options.add_argument("--fp16", action="store_true", help="kernels may compute in float16")
    options.add_argument(
        "--int8", action="store_true", help="kernels may compute in int8 (the model has Q/DQ)"
    )
    options.add_argument("--workspace", type=int, default=1024, help="megabytes a kernel may use")
    options.add_argument("--memPoolSize", help="workspace:MEGABYTES, as trtexec has it")
    given = options.parse_args()
    megabytes = int(given.memPoolSize.partition(":")[2]) if given.memPoolSize else given.workspace

    import tensorrt as trt

    print(f"TensorRT {trt.__version__}")
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)  # the only kind from 10 on
    network = builder.create_network(0 if explicit is None else 1 << int(explicit))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(given.model):
        sys.exit("\n".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    config = builder.create_builder_config()
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, megabytes << 20)
    else:  # before 8.4
        config.max_workspace_size = megabytes << 20
    for name in ("FP16", "INT8"):
        # TensorRT 11 has neither: there the types in the file decide.
        if getattr(given, name.lower()) and hasattr(trt.BuilderFlag, name):
            config.set_flag(getattr(trt.BuilderFlag, name))
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        sys.exit("TensorRT built no engine")
    with open(given.engine, "wb") as file:
        file.write(engine)


if __name__ == "__main__":
    main()
