import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml import data
from ml.data import BrokenPicture, batches_of, cached_pictures, labels_of, open_picture, prepare
from ml.schema import DetectedClass, Example, Layout, Object, read_snapshot


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_picture_is_turned_as_its_camera_was() -> None:
    picture = Image.new("RGB", (40, 20), "black")
    picture.paste((255, 255, 255), (0, 0, 10, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    prepared = prepare(open_picture(encoded(picture, "PNG", exif=exif)), 40)
    assert (prepared.width, prepared.height) == (20, 40)
    assert prepared.pixels.shape == (40, 20, 3)
    assert prepared.pixels[2].min() == 255
    assert prepared.pixels[38].max() == 0


def test_the_longest_side_fits_and_the_scale_leads_back() -> None:
    prepared = prepare(Image.new("RGB", (640, 480)), 320)
    assert prepared.pixels.shape == (240, 320, 3)
    assert prepared.scale_xy == (0.5, 0.5)
    assert prepare(Image.new("RGB", (1, 5000)), 320).pixels.shape == (320, 1, 3)


def test_deep_greys_keep_their_shades() -> None:
    deep = Image.fromarray(np.array([[0, 20_000, 40_000, 65_535]] * 4, dtype=np.uint16))
    shades = prepare(open_picture(encoded(deep)), 4).pixels[0, :, 0].tolist()
    assert shades == [0, 77, 155, 255]


def test_a_huge_picture_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "MAX_PIXELS", 10_000)
    with pytest.raises(BrokenPicture, match="pixels are more"):
        open_picture(encoded(Image.new("L", (101, 100))))


@pytest.mark.parametrize("content", [b"", b"not a picture", encoded(Image.new("L", (30, 30)))[:-30]])
def test_bytes_that_are_no_picture_are_refused(content: bytes) -> None:
    with pytest.raises(BrokenPicture):
        open_picture(content)


def test_the_cache_holds_exactly_what_serving_would_see(snapshot: Path, tmp_path: Path) -> None:
    opened = read_snapshot(snapshot)
    for _ in range(2):  # made, then found
        cache = cached_pictures(opened, 96, tmp_path)
        for index, example in enumerate(opened.examples):
            served = prepare(open_picture(opened.image_path(example)), 96)
            assert np.array_equal(cache[index], served.pixels)
    assert not list(tmp_path.glob("*.part"))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_changed_picture_is_not_trained_on(snapshot: Path, tmp_path: Path) -> None:
    opened = read_snapshot(snapshot)
    folder = tmp_path / "images"
    folder.mkdir()
    for example in opened.examples:
        (folder / example.sha256).write_bytes(opened.image_path(example).read_bytes() + b" ")
    with pytest.raises(BrokenPicture, match="bytes"):
        cached_pictures(
            type(opened)(tmp_path, opened.version, opened.classes, opened.examples, {}), 96, tmp_path
        )


def test_labels_are_in_the_prepared_pictures_pixels() -> None:
    layout = Layout((DetectedClass(4, "dog", ("nose",)), DetectedClass(9, "cat", ("nose", "tail"))))
    cat = Object(9, (20, 10, 120, 60), ((30, 20, 2), (0, 0, 0)), confidence=0.7)
    example = Example("", 100, 50, "train", (cat,))
    labels = labels_of(example, layout, (25, 50))
    assert labels.classes.tolist() == [1]
    assert labels.boxes.tolist() == [[10, 5, 50, 25]]
    assert labels.points.tolist() == [[[0, 0, 0], [15, 10, 2], [0, 0, 0]]]
    assert labels.weights.tolist() == pytest.approx([0.7])


def test_pictures_are_grouped_by_the_canvas_they_need() -> None:
    batches = list(batches_of([(30, 60), (64, 64), (32, 64), (20, 33)], 32, 2))
    assert batches == [([0, 2], (32, 64)), ([3], (32, 64)), ([1], (64, 64))]
