"""Untrusted bytes: what becomes a picture, how it is turned, and what is refused."""

import random
import struct
import zlib
from io import BytesIO
from typing import Any

import pytest
from django.conf import LazySettings
from PIL import Image as Pillow

from labeling import storage
from labeling.models import Image
from labeling.services import pictures
from labeling.services.pictures import BadPicture
from tests.conftest import picture_bytes

CORNERS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


def four_corners() -> Pillow.Image:
    """60 × 40: red at the top left, green at the top right, blue at the bottom left, white at the bottom right."""
    picture = Pillow.new("RGB", (60, 40))
    for color, place in zip(CORNERS.values(), [(0, 0), (30, 0), (0, 20), (30, 20)], strict=True):
        picture.paste(color, (*place, place[0] + 30, place[1] + 20))
    return picture


def encoded(picture: Pillow.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def opened(tier: bytes) -> Pillow.Image:
    return Pillow.open(BytesIO(tier)).convert("RGB")


def nearest_corner(pixel: Any) -> str:
    return min(CORNERS, key=lambda name: sum(abs(a - b) for a, b in zip(CORNERS[name], pixel, strict=True)))


def corners_of(picture: Pillow.Image) -> list[str]:
    width, height = picture.size
    places = [(5, 5), (width - 6, 5), (5, height - 6), (width - 6, height - 6)]
    return [nearest_corner(picture.getpixel(place)) for place in places]


UPRIGHT = {  # what Exif says of a file → the corners that a viewer sees, in reading order
    1: ["red", "green", "blue", "white"],
    2: ["green", "red", "white", "blue"],
    3: ["white", "blue", "green", "red"],
    4: ["blue", "white", "red", "green"],
    5: ["red", "blue", "green", "white"],
    6: ["blue", "red", "white", "green"],
    7: ["white", "green", "blue", "red"],
    8: ["green", "white", "red", "blue"],
}


@pytest.mark.parametrize(("orientation", "corners"), UPRIGHT.items())
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_is_turned_as_exif_says(orientation: int, corners: list[str], kind: str) -> None:
    exif = Pillow.Exif()
    exif[pictures.ORIENTATION_TAG] = orientation

    decoded = pictures.decode(
        encoded(four_corners(), kind, exif=exif, **({"quality": 95} if kind != "PNG" else {}))
    )

    assert corners_of(opened(decoded.tiers["full"])) == corners
    assert (decoded.raw_width, decoded.raw_height, decoded.orientation) == (60, 40, orientation)
    assert (decoded.width, decoded.height) == ((60, 40) if orientation < 5 else (40, 60))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_exif_does_not_know_turns_nothing(orientation: int) -> None:
    exif = Pillow.Exif()
    exif[pictures.ORIENTATION_TAG] = orientation

    decoded = pictures.decode(encoded(four_corners(), "JPEG", exif=exif, quality=95))

    assert (decoded.orientation, decoded.width) == (1, 60)
    assert corners_of(opened(decoded.tiers["full"])) == UPRIGHT[1]


def test_a_tier_carries_no_metadata() -> None:
    exif = Pillow.Exif()
    exif.get_ifd(0x8825)[1] = "N"  # GPS latitude's reference
    exif[0x010F] = "a camera"

    decoded = pictures.decode(encoded(four_corners(), "JPEG", exif=exif))

    for tier in decoded.tiers.values():
        assert len(Pillow.open(BytesIO(tier)).getexif()) == 0
        assert b"Exif" not in tier


def test_what_is_transparent_becomes_white() -> None:
    half = Pillow.new("RGBA", (40, 20), (255, 0, 0, 255))
    half.paste((0, 255, 0, 0), (20, 0, 40, 20))

    picture = opened(pictures.decode(encoded(half)).tiers["full"])

    assert [nearest_corner(picture.getpixel(place)) for place in [(8, 10), (32, 10)]] == ["red", "white"]


def test_a_transparent_colour_of_a_palette_becomes_white() -> None:
    palette = Pillow.new("P", (40, 20), 0)
    palette.putpalette([0, 0, 0, 0, 0, 255])
    palette.paste(1, (20, 0, 40, 20))

    picture = opened(pictures.decode(encoded(palette, transparency=0)).tiers["full"])

    assert [nearest_corner(picture.getpixel(place)) for place in [(8, 10), (32, 10)]] == ["white", "blue"]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr", "F"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    kind = "PNG" if mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else "TIFF"

    decoded = pictures.decode(encoded(Pillow.new(mode, (30, 20)), kind))

    tier = Pillow.open(BytesIO(decoded.tiers["full"]))
    assert (tier.format, tier.mode, tier.size) == ("JPEG", "RGB", (30, 20))


def test_the_depth_of_a_picture_of_16_bits_is_kept_in_proportion() -> None:
    grey = Pillow.new("I;16", (40, 20), 0x4000)

    assert opened(pictures.decode(encoded(grey)).tiers["full"]).getpixel((20, 10)) == (64, 64, 64)


@pytest.mark.parametrize(
    ("size", "tiers"),
    [
        ((300, 512), {"full": (300, 512)}),
        ((513, 100), {"full": (513, 100), "512": (512, 100)}),
        ((1000, 2048), {"full": (1000, 2048), "512": (250, 512)}),
        ((3000, 1000), {"full": (3000, 1000), "2048": (2048, 683), "512": (512, 171)}),
    ],
)
def test_tiers_are_made_where_the_picture_is_larger(
    size: tuple[int, int], tiers: dict[str, tuple[int, int]]
) -> None:
    decoded = pictures.decode(picture_bytes(size=size))

    assert {tier: opened(data).size for tier, data in decoded.tiers.items()} == tiers


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(settings: LazySettings) -> None:
    settings.MAX_PICTURE_PIXELS = 1_000

    assert pictures.decode(picture_bytes(size=(40, 25))).width == 40
    with pytest.raises(BadPicture, match="41 × 25 is more than 1,000 pixels"):
        pictures.decode(picture_bytes(size=(41, 25)))


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [20_000, 100_000, 2**31 - 1])
def test_a_little_file_that_claims_to_be_huge_is_refused(side: int) -> None:
    bomb = png_that_claims(side, side)

    assert len(bomb) < 100
    with pytest.raises(BadPicture):
        pictures.decode(bomb)


def test_a_text_chunk_that_unpacks_to_much_is_refused() -> None:
    packed = zlib.compress(b"a" * 80_000_000)
    data = b"key\0\0" + packed
    text = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    plain = picture_bytes()
    bomb = plain[:33] + text + plain[33:]

    with pytest.raises(BadPicture):
        pictures.decode(bomb)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"%PDF-1.4",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        bytes(1000),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    ],
)
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(BadPicture):
        pictures.decode(data)


@pytest.mark.parametrize("kind", ["ICO", "PPM", "TGA", "ICNS", "SGI"])
def test_a_format_that_is_not_on_the_list_is_refused(kind: str) -> None:
    with pytest.raises(BadPicture, match="is not a picture in JPEG"):
        pictures.decode(encoded(Pillow.new("RGB", (64, 64)), kind))


@pytest.mark.parametrize("kind", pictures.FORMATS)
def test_a_truncated_picture_is_refused(kind: str) -> None:
    whole = encoded(four_corners().resize((300, 200)), kind)

    with pytest.raises(BadPicture):
        pictures.decode(whole[: len(whole) // 2])


@pytest.mark.parametrize("kind", pictures.FORMATS)
def test_damaged_bytes_are_a_picture_or_a_bad_picture_and_never_another_error(kind: str) -> None:
    whole = encoded(four_corners(), kind)
    dice = random.Random(20260302)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(dice.randint(1, 6)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        try:
            decoded = pictures.decode(bytes(damaged))
        except BadPicture:
            continue
        assert decoded.width > 0


@pytest.mark.django_db
def test_storing_the_same_bytes_twice_keeps_one_picture() -> None:
    first = pictures.store(picture_bytes())

    assert pictures.store(picture_bytes()) == first
    assert Image.objects.count() == 1
    assert storage.get_blob(storage.store(), first.sha256) == picture_bytes()


@pytest.mark.django_db
def test_a_bad_picture_leaves_no_row_and_no_bytes() -> None:
    with pytest.raises(BadPicture):
        pictures.store(picture_bytes()[:-30])

    assert not Image.objects.exists()
    assert list(storage.store().names("")) == []


@pytest.mark.django_db
def test_bytes_that_cannot_be_stored_leave_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, name: str, data: bytes) -> None:
        raise storage.StoreUnavailable("no room")

    monkeypatch.setattr(storage.DirectoryStore, "put", full)
    with pytest.raises(storage.StoreUnavailable):
        pictures.store(picture_bytes())

    assert not Image.objects.exists()


@pytest.mark.django_db
def test_a_tier_that_is_larger_than_the_picture_is_the_picture() -> None:
    image = pictures.store(picture_bytes(size=(600, 100)))

    sizes = {tier: opened(pictures.tier_bytes(image, tier)).size for tier in pictures.TIERS}

    assert sizes == {"512": (512, 85), "2048": (600, 100), "full": (600, 100)}
