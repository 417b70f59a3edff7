"""The Caffe 1.0 dialect: layers in execution order, written as deploy.prototxt and .caffemodel."""

from convkit.dialects.caffe.lowering import lower, refuse_custom
from convkit.dialects.caffe.write import write

__all__ = ["lower", "refuse_custom", "write"]
