"""Pictures of one's own, as the network gets them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedtiny.deploy.predict import read_picture

GREY = np.array([[0, 51], [102, 255]], np.uint8)


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(GREY),
        Image.fromarray(GREY).convert("RGB"),
        Image.fromarray(GREY.astype(np.uint16) * 257),
        Image.fromarray(GREY.astype(np.int32) * 257),
    ],
    ids=["8 bits", "colours", "16 bits", "32 bits"],
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_grey_of_any_depth_is_the_same_grey(picture: Image.Image, mode: str, tmp_path: Path) -> None:
    picture.save(tmp_path / "x.tif")
    got = read_picture(tmp_path / "x.tif", mode, (2, 2))
    np.testing.assert_allclose(got, np.broadcast_to(GREY / 255, (len(mode), 2, 2)), atol=1e-6)


def test_a_picture_that_says_how_it_was_held_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # by half a turn
    Image.fromarray(GREY).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_allclose(read_picture(tmp_path / "x.png", "L", (2, 2))[0], GREY[::-1, ::-1] / 255, atol=1e-6)
