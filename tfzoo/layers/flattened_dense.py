"""The first fully connected layer of a region's head."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfzoo")
class FlattenedDense(keras.layers.Dense):
    """A dense layer over all of a map: [N, h, w, C] to [N, units]. Its kernel is ordered row, column, channel."""

    def build(self, input_shape):
        self.map_shape = tuple(input_shape[1:])  # weights in torchvision's layout are ordered channel, row, column
        super().build((input_shape[0], self._length()))
        self.input_spec = keras.InputSpec(shape=(None, *self.map_shape))

    def call(self, inputs, training=None):
        return super().call(ops.reshape(inputs, (-1, self._length())))

    def compute_output_shape(self, input_shape):
        return input_shape[0], self.units

    def compute_output_spec(self, inputs, training=None):
        return keras.KerasTensor((inputs.shape[0], self.units), dtype=self.compute_dtype)

    def _length(self):
        height, width, channels = self.map_shape
        return height * width * channels
