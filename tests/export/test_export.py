"""Exported files answer what the model answers, in operators that every runtime has."""

import json
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from tflite_types import result_types

import tfzoo
from tfzoo.errors import ExportError, InputError, OutputExistsError
from tfzoo.export import export, load, onnx, sidecar, tflite, verify

FLOAT32 = ["savedmodel", "onnx", "float32"]


@pytest.mark.parametrize("form", FLOAT32)
def test_float32_files_answer_like_keras(exported, small_unet, form):
    path, report = exported[form]
    images = np.stack([tfzoo.load_dataset("shapes:64x96", "test").read(i)["images"] for i in range(5)])
    answer, expected = load(path).predict(images), small_unet[0].predict(images, verbose=0)
    assert (answer["labels"] == expected["labels"]).mean() >= 0.9995
    np.testing.assert_allclose(answer["scores"], expected["scores"], atol=1e-4)
    assert report.label_agreement >= 0.9995 and report.latency_ms > 0 and report.checked_pictures == 4


@pytest.mark.parametrize("form", ["float16", "dynamic", "int8"])
def test_quantized_files_are_smaller_and_close(exported, form):
    path, report = exported[form]
    assert report.bytes < exported["float32"][1].bytes * {"float16": 0.6, "dynamic": 0.45, "int8": 0.45}[form]
    assert report.label_agreement >= 0.95
    assert path.stat().st_size == report.bytes
    assert load(path).name == f"tflite {form}"


def test_int8_convolutions_are_integers_and_pictures_stay_uint8(exported):
    path, report = exported["int8"]
    types = result_types(path)
    before, answer = {"CAST", "MUL"}, {"DEQUANTIZE", "REDUCE_MAX", "SUB", "EXP", "SUM", "DIV", "ARG_MAX"}
    assert all(types[kind] == {"INT8"} for kind in types.keys() - before - answer), types
    assert types["EXP"] == types["REDUCE_MAX"] == {"FLOAT32"} and types["CAST"] == {"FLOAT32", "UINT8"}
    assert load(path)._interpreter.get_input_details()[0]["dtype"] == np.uint8
    assert report.calibration == {"source": "shapes:64x96 train", "pictures": 64, "seed": 0}


@pytest.mark.parametrize("name", ["unet", "unet valid", "fcn8s_vgg16"])
@pytest.mark.parametrize(("suffix", "batches"), [("onnx", (1, 3)), ("tflite", (1,)), ("tflite", (3,))])
def test_logits_of_batches_agree(segmenters, pictures, tmp_path, name, suffix, batches):
    """Norm of the difference over norm of the logits at most 1e-4: float32 sums in another order are off by some 1e-6."""
    model, path = segmenters[name], tmp_path / f"model.{suffix}"
    export(model, path, image_size=(64, 96), batch_size=batches[0], raw=True)
    for count in batches:
        images = pictures[0][:count]
        expected = keras.ops.convert_to_numpy(model(images))
        assert np.linalg.norm(load(path).run(images)["logits"] - expected) <= 1e-4 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", ["unet", "fcn8s_vgg16"])
@pytest.mark.parametrize("path", ["model.onnx", "saved"])
def test_files_of_any_size_take_odd_sizes(segmenters, tmp_path, name, path):
    model = segmenters[name]
    report = export(model, tmp_path / path, image_size="any")
    assert report.image_size is None and report.batch_size is None
    images = np.random.default_rng(0).integers(0, 256, (2, 75, 61, 3), dtype=np.uint8)
    answer, expected = load(tmp_path / path).predict(images), model.predict(images, verbose=0)
    assert (answer["labels"] == expected["labels"]).mean() >= 0.999


def test_only_builtin_operators(exported):
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    operators = set(exported["float32"][1].operators)
    assert {"CONV_2D", "TRANSPOSE_CONV", "MAX_POOL_2D", "CONCATENATION", "EXP", "ARG_MAX", "REDUCE_MAX"} <= operators
    assert operators <= set(vars(BuiltinOperator)) - {"CUSTOM"}
    assert {"Conv", "ConvTranspose", "MaxPool", "Exp", "ArgMax"} <= set(exported["onnx"][1].operators)
    assert {"Conv2D", "MaxPool"} <= set(exported["savedmodel"][1].operators)


def test_an_operator_that_is_no_builtin_is_named(tmp_path):
    class Flex(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 4, 4, 3), tf.uint8, name="images")])
        def __call__(self, images):
            window = [1, 2, 2, 1]
            pooled = tf.nn.max_pool_with_argmax(tf.cast(images, tf.float32), window, window, "SAME")
            return {"labels": pooled.argmax}

    module = Flex()
    tf.saved_model.save(module, str(tmp_path), signatures=module.__call__)
    with pytest.raises(ExportError, match="MaxPoolWithArgmax"):
        tflite.convert(tmp_path)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.SELECT_TF_OPS]
    with pytest.raises(ExportError, match="the operator Flex"):
        tflite.operators(converter.convert())


def test_an_onnx_operator_of_another_domain_is_named():
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    node = helper.make_node("Inverse", ["x"], ["y"], domain="com.microsoft")
    graph = helper.make_graph([node], "g", [value], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])])
    with pytest.raises(ExportError, match=r"com\.microsoft\.Inverse"):
        onnx.operators(helper.make_model(graph).SerializeToString())


def test_onnx_imports_the_default_domain_alone_and_keeps_names(exported):
    import onnx as onnx_library

    model = onnx_library.load(exported["onnx"][0])
    onnx_library.checker.check_model(model)
    assert [opset.domain for opset in model.opset_import] == [""]
    assert [value.name for value in model.graph.input] == ["images"]
    assert sorted(value.name for value in model.graph.output) == ["labels", "scores"]


def test_a_file_that_fails_its_check_replaces_nothing(small_unet, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    export(small_unet[0], path, raw=True)
    kept = path.read_bytes()
    monkeypatch.setitem(verify.LIMITS, None, {"scores": ("max_abs_error", -1.0)})
    with pytest.raises(ExportError, match="does not answer what the model answers: max abs error of scores"):
        export(small_unet[0], path)
    assert path.read_bytes() == kept and {file.name for file in tmp_path.iterdir()} == {"model.onnx", "model.onnx.json"}


def test_a_failed_check_leaves_no_empty_folder(small_unet, tmp_path, monkeypatch):
    def fail(*arguments):
        raise ExportError("too far off")

    monkeypatch.setattr(verify, "check", fail)
    (tmp_path / "kept").mkdir()
    with pytest.raises(ExportError, match="too far off"):
        export(small_unet[0], tmp_path / "kept" / "new" / "deeper" / "saved")
    assert (tmp_path / "kept").is_dir() and not list((tmp_path / "kept").iterdir())


def test_compare_counts_and_measures():
    reference = {"labels": np.array([[1, 2], [3, 4]], np.uint8), "logits": np.array([3.0, 4.0], np.float32)}
    answer = {"labels": np.array([[1, 2], [3, 0]], np.uint8), "logits": np.array([3.0, 4.5], np.float32)}
    errors = verify.compare(answer, reference)
    assert errors["labels"] == {"max_abs_error": 4.0, "agreement": 0.75}
    assert errors["logits"] == {"max_abs_error": 0.5, "relative_error": pytest.approx(0.1)}
    with pytest.raises(ExportError, match="'labels' is missing"):
        verify.compare({}, reference)


def test_exporting_again_replaces_the_old_file(small_unet, tmp_path):
    for path in (tmp_path / "saved", tmp_path / "model.tflite"):
        export(small_unet[0], path, raw=True)
        export(small_unet[0], path)
        assert set(load(path).predict(np.zeros((1, 64, 96, 3), np.uint8))) == {"labels", "scores"}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.tflite", "model.tflite.json", "saved"]


def test_report_can_be_kept(exported, tmp_path):
    report = exported["int8"][1]
    report.save(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["label_agreement"] == report.label_agreement
    assert "tflite int8" in str(report)


def test_full_int8_is_integers_alone(small_unet, tmp_path):
    path = tmp_path / "m.tflite"
    report = export(small_unet[0], path, quantization="full_int8", raw=True, image_size=(64, 96), calibration="shapes:64x96")
    assert all(types <= {"INT8", "UINT8", "INT32"} for types in result_types(path).values())
    assert report.parity["logits"]["relative_error"] < 0.1
    runner = load(path)
    given = runner._signature.get_input_details()["images"]
    assert given["dtype"] == np.uint8 and given["quantization"] == (1.0, 0)  # pixel values as they are
    pictures = np.stack([tfzoo.load_dataset("shapes:64x96", "test").read(i)["images"] for i in range(2)])
    answer, (scale, zero_point) = runner.predict(pictures)["logits"], runner.sidecar.integers["logits"]
    assert runner.sidecar.outputs["logits"].startswith("int8") and "float32" not in runner.sidecar.outputs["logits"]
    integers = answer / scale + zero_point
    np.testing.assert_allclose(integers, np.rint(integers), atol=1e-3)
    assert integers.min() >= -128 and integers.max() <= 127
    labels = small_unet[0].predict(pictures, verbose=0)["labels"]
    assert (answer.argmax(axis=-1) == labels).mean() > 0.9


@pytest.mark.parametrize(("place", "quantization"), [("m.tflite", None), ("m.onnx", None), ("m.tflite", "int8")])
def test_pictures_may_be_floats(small_unet, tmp_path, place, quantization):
    report = export(small_unet[0], tmp_path / place, quantization=quantization, image_size=(64, 96), float_input=True)
    least = 0.95 if quantization else 0.9995
    runner = load(tmp_path / place)
    assert sidecar.picture_type(runner.sidecar) == "float32" and report.label_agreement >= least
    pictures = np.stack([tfzoo.load_dataset("shapes:64x96", "test").read(i)["images"] for i in range(2)])
    labels = small_unet[0].predict(pictures, verbose=0)["labels"]
    assert (runner.predict(pictures)["labels"] == labels).mean() >= least
    if place.endswith("tflite"):
        assert runner._interpreter.get_input_details()[0]["dtype"] == np.float32 and report.operators.get("CAST", 0) == 1


def test_the_sidecar_tells_how_far_the_file_agrees_and_knows_it(exported):
    for form in FLOAT32:
        path, report = exported[form]
        facts = sidecar.read(path)
        assert facts.parity == report.parity and facts.digest == sidecar.digest(path)
        assert "upright" in facts.resize and facts.versions["tfzoo"] == tfzoo.__version__


def test_int8_without_calibration_is_noted(small_unet, tmp_path):
    assert "drawn shapes" in export(small_unet[0], tmp_path / "m.tflite", quantization="int8", image_size=(64, 96)).notes[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 16}, "at least 32x32"),
        ({"image_size": "0x4"}, "is not a size"),
        ({"format": "tflit"}, "Did you mean 'tflite'"),
        ({"format": "tflite"}, "ends in .tflite"),
        ({"path": "model.keras"}, "tells no format"),
        ({"path": "model.tflite", "image_size": "any"}, "pictures of one size"),
        ({"format": "savedmodel"}, "ends in none of .tflite, .onnx, .xml"),
        ({"quantization": "int4", "path": "model.tflite"}, "Quantization 'int4' is not known"),
        ({"quantization": "int8"}, "is for TFLite files"),
        ({"quantization": "full_int8", "path": "model.tflite"}, "only raw outputs can be"),
        ({"quantization": "full_int8", "path": "model.tflite", "raw": True, "float_input": True}, "integers alone"),
        ({"batch_size": 0, "path": "model.tflite"}, "batch_size is 0"),
        ({"calibration": "masks:nowhere"}, "There is no folder"),
        ({"calibration": []}, "no pictures to calibrate"),
    ],
)
def test_impossible_exports_are_refused(small_unet, tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        export(small_unet[0], tmp_path / arguments.get("path", "model.onnx"), **{k: v for k, v in arguments.items() if k != "path"})
    assert not list(tmp_path.iterdir())


def test_what_is_no_older_export_is_left_alone(small_unet, tmp_path):
    for name, message in (("notes.tflite", "no older export"), ("other.onnx", "tells of no older export")):
        path = tmp_path / name
        kept = path if name == "notes.tflite" else tmp_path / f"{name}.json"
        kept.write_text("{}")
        with pytest.raises(OutputExistsError, match=message):
            export(small_unet[0], path)
        assert kept.read_text() == "{}"
    (tmp_path / "folder.tflite").mkdir()
    with pytest.raises(OutputExistsError, match="is a folder"):
        export(small_unet[0], tmp_path / "folder.tflite")


def test_the_digest_is_the_files_own(exported):
    import hashlib

    path = exported["onnx"][0]
    assert sidecar.read(path).digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_interrupted_replacement_keeps_the_old_folder(exported, monkeypatch, tmp_path):
    from tfzoo.export import exporter

    old, draft = tmp_path / "saved", tmp_path / "drafts" / "draft"
    for folder, text in ((old, "old"), (draft, "new")):
        folder.mkdir(parents=True)
        (folder / "saved_model.pb").write_text(text)
    replace = os.replace

    def interrupted(source, target):
        if source == draft:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(exporter.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        exporter._put_in_place(draft, old)
    assert (old / "saved_model.pb").read_text() == "old"


def test_equal_arrays_of_an_integer_file_are_stored_once_and_aligned(exported):
    data = exported["int8"][0].read_bytes()
    model = schema.Model.GetRootAs(data, 0)
    tensors = [model.Subgraphs(0).Tensors(place) for place in range(model.Subgraphs(0).TensorsLength())]
    zeros = [t.Quantization() for t in tensors if t.Quantization() and t.Quantization().ZeroPointLength() == 8]
    places = {q._tab.Vector(q._tab.Offset(10)) for q in zeros if not q.ZeroPointAsNumpy().any()}
    assert len(zeros) > 1 and len(places) == 1
    buffers = [model.Buffers(place) for place in range(model.BuffersLength())]
    assert all(b._tab.Vector(b._tab.Offset(4)) % 16 == 0 for b in buffers if b.DataLength())


def test_calibration_looks_at_each_picture_once_whatever_the_batch():
    from tfzoo.export.exporter import Plan, _batches

    pictures = [np.full((32, 32, 3), value, np.uint8) for value in range(10)]
    plan = Plan(None, None, "tflite", "int8", (32, 32), 4, False, None, False)
    seen = [batch["images"][:, 0, 0, 0].tolist() for batch in _batches(plan, pictures)]
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]


def test_proposals_that_are_all_elsewhere_are_told_and_free_places_prove_nothing():
    rng = np.random.default_rng(0)
    boxes = np.zeros((1, 1000, 4), np.float32)
    boxes[0, :10] = rng.uniform(0, 50, (10, 4)) + np.array([0, 0, 60, 60])
    heads = {"proposals": boxes, "class_logits": rng.normal(size=(1, 1000, 3)).astype("float32")}
    heads["box_regression"] = np.zeros((1, 1000, 3, 4), np.float32)
    moved = {**heads, "proposals": boxes + np.float32(50) * (boxes > 0)}
    assert verify.compare_proposals(heads, heads)["proposals"]["agreement"] == 1
    errors = verify.compare_proposals(moved, heads)
    assert errors["proposals"]["agreement"] == 0
    with pytest.raises(ExportError, match="agreement of proposals is 0"):
        verify.check(errors, None)
