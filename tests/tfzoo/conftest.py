"""What the unit tests of the ``tfzoo`` room share."""

import pytest
from PIL import Image

from tfzoo.errors import InputError, MissingInputError


@pytest.fixture
def write_masks():
    """A function that writes a ``masks:`` folder of PNG files and returns its spec."""

    def write(root, samples, class_names, split="train"):
        """``samples``: name -> (picture uint8 [H, W, 3], label map uint8 [H, W])."""
        for folder in ("images", "labels"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for name, (image, labels) in samples.items():
            Image.fromarray(image).save(root / "images" / f"{name}.png")
            Image.fromarray(labels).save(root / "labels" / f"{name}.png")
        (root / f"{split}.txt").write_text("\n".join(samples) + "\n")
        (root / "classes.txt").write_text("\n".join(class_names) + "\n")
        return f"masks:{root}"

    return write


@pytest.fixture
def expect_sentence():
    """A function that calls another one and checks that it raises one sentence for people, which it returns."""

    def expect(call, *parts, missing=False):
        """``parts``: what the sentence names; ``missing``: whether something was not there."""
        with pytest.raises(InputError) as caught:
            call()
        assert type(caught.value) is (MissingInputError if missing else InputError)
        assert isinstance(caught.value, FileNotFoundError) == missing
        sentence = str(caught.value)
        assert "\n" not in sentence
        assert sentence.endswith((".", "?"))
        for part in parts:
            assert str(part) in sentence
        return sentence

    return expect
