"""From class logits to a decision."""

import keras
from keras import ops


def argmax(x, axis=-1):
    """Index of the first largest entry along ``axis``, int32.

    ``keras.ops.argmax`` guards against negative zero with bit operations that neither TFLite nor ONNX has, so TensorFlow's
    own kernel is taken where it is there.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.argmax(x, axis=axis, output_type=tf.int32)
    return ops.argmax(x, axis=axis)
