"""The table of ``tfzoo benchmark accuracy``; its command is tested with the others."""

from tfzoo.benchmarks import comparison

ONE = {"artifact": "a/m.keras", "format": "keras", "task": "instance", "data": "coco:D", "split": "val", "pictures": 2}
ONE |= {"measured_at": "original size", "bytes": 2_500_000, "AP": 0.5, "AP50": 0.75, "per_class": {"cat": {"AP": 0.5}}}
ONE["masks"] = {"AP": 0.25, "AP50": 0.5, "per_class": {"cat": {"AP": 0.25}, "dog": {"AP": None}}}
OTHER = ONE | {"artifact": "b.tflite", "format": "tflite int8", "masks": ONE["masks"] | {"AP": 0.2}}
EMPTY = ONE | {"artifact": "c.onnx", "format": "onnx", "masks": ONE["masks"] | {"AP": None}}


def test_masks_lead_where_there_are_some():
    lines = comparison.format_table([ONE, OTHER, EMPTY]).splitlines()
    assert lines[0] == "coco:D val, 2 pictures, measured at original size."
    assert lines[2] == "| artifact | format | MB | mask AP | mask AP50 | box AP | box AP50 | change of mask AP |"
    assert lines[4:] == [
        "| a/m.keras | keras | 2.50 | 0.2500 | 0.5000 | 0.5000 | 0.7500 | +0.0000 |",
        "| b.tflite | tflite int8 | 2.50 | 0.2000 | 0.5000 | 0.5000 | 0.7500 | -0.0500 |",
        "| c.onnx | onnx | 2.50 | - | 0.5000 | 0.5000 | 0.7500 | - |",
    ]


def test_pictures_are_drawn_of_what_is_known(tmp_path):
    comparison.save([ONE, OTHER, EMPTY], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["accuracy.json", "accuracy.md", "accuracy.png"]
    assert comparison._of_classes(ONE, "masks AP") == [0.25]
