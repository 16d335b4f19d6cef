"""R-CNN, Fast R-CNN and Faster R-CNN beside each other."""

import json

import numpy as np
import pytest
from fast_cases import answer_of, decide, small

from tfzoo.benchmarks import ladder

SIDE = 128


def test_one_region_that_is_the_picture_is_fast_rcnns():
    """Nothing is warped then: R-CNN sees what Fast R-CNN sees."""
    pictures = np.random.default_rng(0).integers(
        0, 256, (4, SIDE, SIDE, 3), np.uint8
    )  # norms of one small map would magnify rounding
    picture, whole = pictures[0], np.array([[0, 0, SIDE, SIDE]], np.float32)
    model = decide(small(box_score_thresh=0.05, box_detections_per_img=5), {"images": pictures, "proposals": np.stack([whole] * 4)})
    expected = answer_of(model, {"images": picture[None], "proposals": whole[None]})
    assert expected["num_detections"][0] > 0
    found = ladder.WarpedRegions(model, SIDE).predict(picture, whole)
    np.testing.assert_array_equal(found["labels"], expected["labels"])
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-2)


@pytest.mark.slow
def test_prints_a_table_and_json(capsys):
    arguments = ["--size", "64", "--proposals", "5", "--rounds", "1", "--width-multiplier", "0.0625"]
    ladder.main(arguments)
    assert "| Faster R-CNN |" in capsys.readouterr().out
    ladder.main([*arguments, "--json"])
    (result,) = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in result["rows"]] == ["R-CNN", "Fast R-CNN", "Faster R-CNN"]
    assert result["proposals"] == 5 and all(row["network"] > 0 for row in result["rows"])
