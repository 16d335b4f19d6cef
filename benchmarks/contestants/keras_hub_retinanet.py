"""KerasHub's RetinaNet on ResNet-50 with random weights. Arguments as for ``tfzoo_detector.py``; frozen_norms: else norms learn."""

from loop import arguments, serve

# isort: split
import keras
import keras_hub
import numpy as np
import tensorflow as tf

given = arguments()
picture = np.load(given["picture"]).astype(np.float32)
images = np.repeat(picture[None], given["batch_size"], axis=0)
boxes = np.array([[[40, 60, 220, 300], [100, 80, 380, 180], [120, 200, 360, 480]]], np.float32)
targets = {"boxes": boxes.repeat(len(images), 0), "labels": np.array([[3, 17, 90]], np.float32).repeat(len(images), 0)}


def build(dtype):
    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        image_shape=(given["size"], given["size"], 3),
        dtype=dtype,
    )
    backbone = keras_hub.models.RetinaNetBackbone(encoder, min_level=3, max_level=7, use_p5=True, dtype=dtype)
    model = keras_hub.models.RetinaNetObjectDetector(backbone, num_classes=91, bounding_box_format="xyxy", dtype=dtype)
    for layer in model._flatten_layers():
        if given["frozen_norms"] and isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    return model


batch = tf.data.Dataset.from_tensors((images, targets)).cache()
model, learner = build("float32"), build(given["precision"])
serve(
    {
        "predict": lambda: model.predict(picture[None], verbose=0),
        "training step": lambda: learner.fit(batch, verbose=0),
    },
    detections=int(model.predict(picture[None], verbose=0)["num_detections"][0]),
)
