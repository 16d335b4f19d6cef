"""Models that answer something worth comparing."""

import numpy as np
import pytest

import tfzoo


def with_scores(model):
    """Gives scoring layers, which start at zero, and the norms' statistics random values."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if "score" in variable.path:
            variable.assign(rng.normal(0, 0.1, variable.shape))
        elif variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


@pytest.fixture(scope="session")
def segmenters(small_unet):
    """One model of each architecture file, by name."""
    fcn = tfzoo.create_model("fcn8s_vgg16", num_classes=5, width_multiplier=0.125, batch_norm=True)
    valid = tfzoo.create_model("unet", num_classes=5, width_multiplier=0.125, depth=2, padding="valid")
    return {"unet": small_unet[0], "unet valid": with_scores(valid), "fcn8s_vgg16": with_scores(fcn)}


@pytest.fixture(scope="session")
def exported(small_unet, tmp_path_factory):
    """The small U-Net in every format: name -> (path, report)."""
    from tfzoo.export import export

    folder = tmp_path_factory.mktemp("exported")
    forms = {
        "savedmodel": ("saved", None),
        "onnx": ("unet.onnx", None),
        "float32": ("unet.tflite", None),
        "float16": ("unet16.tflite", "float16"),
        "dynamic": ("unet_dynamic.tflite", "dynamic"),
        "int8": ("unet8.tflite", "int8"),
    }
    return {
        form: (folder / name, export(small_unet[0], folder / name, quantization=quantization, calibration="shapes:64x96"))
        for form, (name, quantization) in forms.items()
    }
