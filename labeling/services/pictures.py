"""Pictures: untrusted bytes become an `Image` row, the original in the store, and tiers for the screen."""

import io
import warnings
from dataclasses import dataclass
from typing import Final

from django.conf import settings
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from labeling import storage
from labeling.models import Image

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
TIERS: Final = {"512": 512, "2048": 2048, "full": None}
"""Longest side in pixels; `full` is the whole oriented picture, encoded anew without its metadata."""
ORIENTATION_TAG: Final = 0x0112


class BadPicture(ValueError):
    """These bytes are no picture that can be labelled; the message says why."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture's facts and its tiers as JPEG bytes."""

    sha256: str
    width: int
    height: int
    raw_width: int
    raw_height: int
    orientation: int
    format: str
    tiers: dict[str, bytes]


def store(data: bytes) -> Image:
    """The `Image` of these bytes, stored if it is new: bytes first, then the row. Raises `BadPicture`."""
    known = Image.objects.filter(sha256=storage.sha256_of(data)).first()
    if known is not None:
        return known
    made = keep_bytes(data)
    Image.objects.bulk_create([made], ignore_conflicts=True)
    return Image.objects.get(sha256=made.sha256)


def keep_bytes(data: bytes) -> Image:
    """Stores a picture and its tiers, and gives back its row, which is not saved. Raises `BadPicture`.

    Asks no database, so that many threads may do it at once.
    """
    decoded = decode(data)
    blobs = storage.store()
    storage.put_blob(blobs, data)
    for tier, encoded in decoded.tiers.items():
        blobs.put(storage.tier_name(decoded.sha256, tier), encoded)
    return Image(
        sha256=decoded.sha256,
        width=decoded.width,
        height=decoded.height,
        raw_width=decoded.raw_width,
        raw_height=decoded.raw_height,
        orientation=decoded.orientation,
        format=decoded.format,
        size_bytes=len(data),
    )


def decode(data: bytes) -> Decoded:
    """Checks and decodes a picture, EXIF orientation applied. Raises `BadPicture`."""
    if not data:
        raise BadPicture("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Pillow.open(io.BytesIO(data), formats=FORMATS) as picture:
                if picture.width * picture.height > settings.MAX_PICTURE_PIXELS:
                    raise BadPicture(
                        f"{picture.width} × {picture.height} is more than {settings.MAX_PICTURE_PIXELS:,} pixels"
                    )
                orientation = picture.getexif().get(ORIENTATION_TAG, 1)
                kind = picture.format or ""
                oriented = _rgb(ImageOps.exif_transpose(picture))
    except BadPicture:
        raise
    except UnidentifiedImageError:
        raise BadPicture("is not a picture in JPEG, PNG, WebP, BMP, TIFF or GIF") from None
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, Pillow.DecompressionBombError) as error:
        raise BadPicture(f"cannot be decoded: {error}") from error
    orientation = orientation if orientation in range(1, 9) else 1
    # From the turned picture, as Pillow tells a TIFF's size turned already.
    raw_width, raw_height = oriented.size if orientation < 5 else oriented.size[::-1]
    return Decoded(
        sha256=storage.sha256_of(data),
        width=oriented.width,
        height=oriented.height,
        raw_width=raw_width,
        raw_height=raw_height,
        orientation=orientation,
        format=kind,
        tiers=_tiers(oriented),
    )


def tier_bytes(image: Image, tier: str) -> bytes:
    """A tier's JPEG; a picture smaller than the tier is served whole. Raises `KeyError` for an unknown tier."""
    longest = TIERS[tier]
    stored = tier if longest is not None and max(image.width, image.height) > longest else "full"
    return storage.store().get(storage.tier_name(image.sha256, stored))


def _rgb(picture: Pillow.Image) -> Pillow.Image:
    if picture.mode.startswith("I;16"):
        # Pillow's own conversion makes white of everything above 255.
        picture = picture.convert("I").point(lambda value: value / 256).convert("L")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        with_alpha = picture.convert("RGBA")
        ground = Pillow.new("RGBA", with_alpha.size, (255, 255, 255, 255))
        return Pillow.alpha_composite(ground, with_alpha).convert("RGB")
    return picture.convert("RGB")


def _tiers(oriented: Pillow.Image) -> dict[str, bytes]:
    tiers: dict[str, bytes] = {}
    smaller = oriented
    for tier, longest in sorted(TIERS.items(), key=lambda item: -(item[1] or 10**9)):
        if longest is None:
            tiers[tier] = _jpeg(oriented, quality=95)
        elif max(oriented.size) > longest:
            smaller = smaller.copy()
            smaller.thumbnail((longest, longest), Pillow.Resampling.LANCZOS, reducing_gap=3.0)
            tiers[tier] = _jpeg(smaller, quality=85)
    return tiers


def _jpeg(picture: Pillow.Image, *, quality: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality, progressive=quality < 95)
    return out.getvalue()
