"""Heat maps of a class, computed inside the graph: where in the picture the evidence for it lies.

Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) at the last feature map, from which few layers lead to the logits:
only these are differentiated. Where they are global average pooling and one dense layer, it is the class activation
map (Zhou et al. 2016, arXiv:1512.04150) divided by the number of the map's places.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from models.quiet import without_openvino_telemetry

without_openvino_telemetry()
import openvino.opset13 as ops  # noqa: E402
from openvino import Output  # noqa: E402
from openvino.frontend.tensorflow import ConversionExtension  # noqa: E402


def grad_cam(logits: tf.Tensor, features: tf.Tensor, class_ids: tf.Tensor) -> tf.Tensor:
    """float32 [N, h, w]: the channels of features [N, h, w, D], weighted by their mean gradients, and summed.

    The gradient is that of one of logits [N, C] for each picture, which int32 [N] says. Evidence against a class is
    negative. Works in a graph alone, in which the logits were computed from the features.
    """
    (gradient,) = tf.gradients(logits, features, grad_ys=tf.one_hot(class_ids, logits.shape[-1]))
    weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
    return tf.reduce_sum(weights * features, axis=-1)


def _relu_gradient(node: Any) -> list[Output]:
    gradient, output = node.get_input(0), node.get_input(1)
    return _outputs(ops.multiply(gradient, ops.convert(ops.greater(output, np.float32(0)), "f32")))


def _tanh_gradient(node: Any) -> list[Output]:
    output, gradient = node.get_input(0), node.get_input(1)
    return _outputs(ops.multiply(gradient, ops.subtract(np.float32(1), ops.multiply(output, output))))


def _outputs(node: Any) -> list[Output]:
    found: list[Output] = node.outputs()
    return found


# Gradients that OpenVINO does not read by itself: those of the activations between feature maps and logits
OPENVINO_RULES = [ConversionExtension("ReluGrad", _relu_gradient), ConversionExtension("TanhGrad", _tanh_gradient)]
