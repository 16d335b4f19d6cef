"""Every architecture exports to every format, in operators that all runtimes have, and the files give its logits.

The operators are checked by ``export`` itself, which refuses any other.
"""

import keras
import numpy as np
from segmenter_cases import CASES, segmenters

import tfzoo
from tfzoo.export import export, load


def with_random_norms(model):
    """Gives weights that start at zero or one random values, so that an error in any layer shows in the logits."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.path.endswith(("bias", "beta", "moving_mean")) or "score" in variable.path:
            variable.assign(rng.normal(0, 0.1, variable.shape))
    return model


# Between them: skips, transposed and separable convolutions, remembered maxima, dilation, squeezing, hard swish.
QUICK = {"unet", "fcn8s_vgg16", "segnet_basic", "deeplabv3plus_mobilenetv2", "lraspp_mobilenet_v3_large"}

TRANSPOSES = {"pspnet_resnet50": 5}  # of ONNX files, beside the pictures' and the logits': its bins are sums along each side


@segmenters(QUICK)
def test_files_give_the_logits(name, pictures, tmp_path):
    """Norm of the difference over norm of the logits at most 1e-4: float32 sums in another order are off by some 1e-6.

    Where maxima are remembered, a near-tie that falls the other way moves a patch of the logits: 1e-2, and 99.9 % of the labels.
    """
    keras.utils.set_random_seed(0)
    model = with_random_norms(tfzoo.create_model(name, num_classes=5, **CASES[name]))
    images = pictures[0][:2, :61, :75]
    for place, size in (("saved", "any"), ("model.onnx", "any"), ("model.xml", "any"), ("model.tflite", images.shape[1:3])):
        report = export(model, tmp_path / place, image_size=size, raw=True)
        if place == "model.onnx" and not model.remembers_maxima:  # channels first throughout, and convolutions dilated
            assert report.operators["Transpose"] == 2 + TRANSPOSES.get(name, 0) and "SpaceToDepth" not in report.operators
        expected = keras.ops.convert_to_numpy(model(images))
        logits = load(tmp_path / place).predict(images)["logits"]
        error = np.linalg.norm(logits - expected) / np.linalg.norm(expected)
        assert error <= (1e-2 if model.remembers_maxima else 1e-4), f"{place}: {error}"
        assert (logits.argmax(-1) == expected.argmax(-1)).mean() >= 0.999, place
