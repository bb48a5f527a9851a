"""Pictures drawn with known labels, to try the whole wheel without anybody's data.

Shaded balls, crates and tents lie about among clutter, and jointed figures look at the viewer. Some pictures
are hard on purpose: small, faint or half covered objects. Tents are rare. The same arguments draw the same
pictures.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Floats: TypeAlias = NDArray[np.float64]
XY: TypeAlias = tuple[float, float]
Pen: TypeAlias = Callable[[ImageDraw.ImageDraw, float], None]
"""Draws a mask in white; the second argument is how many mask pixels there are per picture pixel."""

FINE: Final = 4
"""Masks are drawn this many times larger and shrunk, for smooth edges."""
LEAST_VISIBLE: Final = 0.35

JOINTS: Final = (
    "head", "hip", "left elbow", "left hand", "right elbow", "right hand", "left foot", "right foot",
)  # fmt: skip
EDGES: Final = ((0, 1), (0, 2), (2, 3), (0, 4), (4, 5), (1, 6), (1, 7))
CATEGORIES: Final[tuple[dict[str, Any], ...]] = (
    {"id": 1, "name": "ball", "supercategory": ""},
    {"id": 2, "name": "crate", "supercategory": ""},
    {"id": 3, "name": "tent", "supercategory": ""},
    {
        "id": 4,
        "name": "figure",
        "supercategory": "",
        "keypoints": list(JOINTS),
        "skeleton": [[first + 1, second + 1] for first, second in EDGES],  # COCO counts from 1
    },
)
BALL, CRATE, TENT, FIGURE = 1, 2, 3, 4
FREQUENCIES: Final = {BALL: 0.42, CRATE: 0.32, TENT: 0.08, FIGURE: 0.18}
HUES: Final = {  # usual colours of each class, RGB
    BALL: ((214, 80, 64), (232, 146, 52), (196, 62, 104)),
    CRATE: ((70, 124, 190), (54, 156, 150), (104, 98, 182)),
    TENT: ((88, 160, 84), (150, 172, 66), (52, 128, 98)),
    FIGURE: ((236, 190, 80), (206, 208, 214), (226, 150, 128)),
}


@dataclass(frozen=True, slots=True)
class _Item:
    """One object, ready to be painted."""

    category: int
    outline: Pen
    details: tuple[tuple[Pen, float], ...]  # painted over the body, times its brightness
    low: XY
    high: XY
    joints: tuple[XY, ...] = ()


def draw(out: Path, *, count: int, seed: int, size: tuple[int, int] = (320, 240)) -> dict[str, Any]:
    """Writes `images/0001.jpg` … and `labels.json` (COCO) to `out`; returns what `labels.json` holds.

    Boxes go around the whole object, also where another covers it, cut at the picture's edge. A joint's
    visibility is 2, or 1 where something covers it, or 0 outside.
    """
    (out / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        random = np.random.default_rng((seed, number))
        picture, labels = _scene(random, size)
        name = f"{number:04d}.jpg"
        picture.save(out / "images" / name, quality=90)
        images.append({"id": number, "file_name": name, "width": size[0], "height": size[1]})
        annotations += [
            {"id": len(annotations) + place, "image_id": number, "iscrowd": 0, **label}
            for place, label in enumerate(labels, start=1)
        ]
    labels_json = {"images": images, "categories": list(CATEGORIES), "annotations": annotations}
    (out / "labels.json").write_text(json.dumps(labels_json))
    return labels_json


def _scene(random: np.random.Generator, size: tuple[int, int]) -> tuple[Image.Image, list[dict[str, Any]]]:
    width, height = size
    hard = random.random() < 0.3
    canvas = _background(random, size)
    owners = np.full((height, width), -1, dtype=np.int64)
    items: list[_Item] = []
    whole: list[int] = []
    wanted = int(random.integers(3, 8)) + (2 if hard else 0)
    for _ in range(wanted * 4):
        if len(items) == wanted:
            break
        category = int(random.choice(list(FREQUENCIES), p=list(FREQUENCIES.values())))
        item = _make(category, random, size, hard)
        alpha, left, top = _mask(item.outline, item, size)
        covered = alpha > 0.5
        area = int(covered.sum())
        window = owners[top : top + alpha.shape[0], left : left + alpha.shape[1]]
        if area < 40 or any(
            (owners == owner).sum() - (window[covered] == owner).sum() < LEAST_VISIBLE * whole[owner]
            for owner in np.unique(window[covered])
            if owner >= 0
        ):
            continue
        _paint(canvas, item, random, faint=hard and random.random() < 0.35)
        window[covered] = len(items)
        items.append(item)
        whole.append(area)
    canvas += random.normal(0, random.uniform(2, 9 if hard else 6), canvas.shape)
    picture = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
    return picture, [_label(item, index, owners) for index, item in enumerate(items)]


def _label(item: _Item, index: int, owners: NDArray[np.int64]) -> dict[str, Any]:
    height, width = owners.shape
    x1, y1 = max(0.0, item.low[0]), max(0.0, item.low[1])
    x2, y2 = min(float(width), item.high[0]), min(float(height), item.high[1])
    label: dict[str, Any] = {
        "category_id": item.category,
        "bbox": [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)],
        "area": round((x2 - x1) * (y2 - y1), 2),
    }
    if item.joints:
        points: list[float] = []
        for x, y in item.joints:
            if not (0 <= x < width and 0 <= y < height):
                points += [0, 0, 0]
            else:
                points += [round(x, 2), round(y, 2), 2 if owners[int(y), int(x)] == index else 1]
        label["keypoints"] = points
        label["num_keypoints"] = sum(value > 0 for value in points[2::3])
    return label


def _background(random: np.random.Generator, size: tuple[int, int]) -> Floats:
    """A soft gradient with blurred shadows and thin clutter: [height, width, 3] in 0–255."""
    width, height = size
    base = random.uniform(120, 205) + random.normal(0, 10, 3)
    angle = random.uniform(0, 2 * math.pi)
    y, x = np.mgrid[0:height, 0:width]
    slope = (x / width - 0.5) * math.cos(angle) + (y / height - 0.5) * math.sin(angle)
    canvas = base + 45 * slope[..., None] * random.uniform(0.5, 1.2, 3)
    coarse = random.normal(0, 1, (6, 8)).astype(np.float32)
    blotches = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    canvas += 7 * np.asarray(blotches, dtype=np.float64)[..., None]
    clutter = Image.new("L", (width * 2, height * 2), 0)
    pen = ImageDraw.Draw(clutter)
    for _ in range(int(random.integers(4, 14))):
        ends = [(int(random.integers(2 * width)), int(random.integers(2 * height))) for _ in range(2)]
        shade = int(random.integers(60, 200))
        if random.random() < 0.5:
            pen.line(ends, fill=shade, width=int(random.integers(1, 5)))
        else:
            reach = int(random.integers(12, 70))
            (cx, cy), turn = ends[0], float(random.uniform(0, 360))
            pen.arc((cx - reach, cy - reach, cx + reach, cy + reach), turn, turn + 150, fill=shade, width=3)
    alpha = np.asarray(clutter.resize(size, Image.Resampling.BOX), dtype=np.float64)[..., None] / 255
    ink = base * random.uniform(0.55, 1.25)
    marked: Floats = canvas * (1 - 0.6 * alpha) + ink * 0.6 * alpha
    return marked


def _make(category: int, random: np.random.Generator, size: tuple[int, int], hard: bool) -> _Item:
    width, height = size
    scale = min(width, height) / 240
    centre = float(random.uniform(0.04, 0.96) * width), float(random.uniform(0.06, 0.94) * height)
    if category == FIGURE:
        return _figure(random, centre, scale * float(random.uniform(55, 105)) * (0.7 if hard else 1.0))
    radius = scale * float(math.exp(random.uniform(math.log(11), math.log(34)))) * (0.65 if hard else 1.0)
    if category == BALL:
        return _ball(centre, radius)
    turn = float(random.uniform(-0.35, 0.35))
    if category == CRATE:
        return _crate(centre, radius, turn)
    return _tent(centre, radius * 1.15, turn)


def _ball(centre: XY, radius: float) -> _Item:
    (x, y), glint = centre, 0.28 * radius
    shine = (x - 0.35 * radius, y - 0.38 * radius)
    return _Item(
        BALL,
        _disc(centre, radius),
        ((_disc(shine, glint), 1.35),),
        (x - radius, y - radius),
        (x + radius, y + radius),
    )


def _crate(centre: XY, radius: float, turn: float) -> _Item:
    corners = _around(centre, radius, [turn + math.pi / 4 + quarter * math.pi / 2 for quarter in range(4)])
    planks = tuple(
        (_stroke((corners[a], corners[b]), radius * 0.16), 0.68) for a, b in ((0, 1), (1, 2), (2, 3), (3, 0))
    )
    brace = ((_stroke((corners[0], corners[2]), radius * 0.14), 0.8),)
    return _polygon_item(CRATE, corners, brace + planks)


def _tent(centre: XY, radius: float, turn: float) -> _Item:
    corners = _around(centre, radius, [turn - math.pi / 2, turn + 0.22 * math.pi, turn + 0.78 * math.pi])
    (top, right, left) = corners
    foot = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2)
    door = tuple(
        (foot[0] + (corner[0] - foot[0]) * 0.3, foot[1] + (corner[1] - foot[1]) * 0.3) for corner in corners
    )
    return _polygon_item(TENT, corners, ((_filled(door), 0.55), (_stroke((top, right), radius * 0.08), 1.2)))


def _figure(random: np.random.Generator, centre: XY, tall: float) -> _Item:
    """A doll that faces the viewer, so its left hand is on the picture's right."""
    lean = float(random.normal(0, 0.18))

    def place(across: float, up: float) -> XY:
        x, y = across * tall, -up * tall
        cos, sin = math.cos(lean), math.sin(lean)
        return centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos

    local: list[XY] = [(0.0, 0.40), (0.0, -0.06)]
    for side in (1, -1):
        shoulder = (side * 0.10, 0.22)
        raised = float(random.uniform(0.15, 0.85)) * math.pi
        bent = raised - float(random.uniform(-0.3, 0.6))
        across, up = 0.17 * math.sin(raised), -0.17 * math.cos(raised)
        elbow = (shoulder[0] + side * across, shoulder[1] + up)
        hand = (elbow[0] + side * 0.17 * math.sin(bent), elbow[1] - 0.17 * math.cos(bent))
        local += [elbow, hand]
    for side in (1, -1):
        spread = float(random.uniform(0.08, 0.55))
        local.append((side * (0.05 + 0.42 * math.sin(spread)), -0.06 - 0.42 * math.cos(spread)))
    joints = tuple(place(*point) for point in local)
    head, hip, left_elbow, left_hand, right_elbow, right_hand, left_foot, right_foot = joints
    thick, radius = 0.075 * tall, 0.115 * tall
    left_shoulder, right_shoulder, neck = place(0.10, 0.22), place(-0.10, 0.22), place(0, 0.24)
    strokes: list[Pen] = [
        _stroke((left_shoulder, left_elbow, left_hand), thick),
        _stroke((right_shoulder, right_elbow, right_hand), thick),
        _stroke((place(0.05, -0.06), left_foot), thick * 1.2),
        _stroke((place(-0.05, -0.06), right_foot), thick * 1.2),
        _filled((left_shoulder, right_shoulder, place(-0.07, -0.08), place(0.07, -0.08))),
        _stroke((left_shoulder, right_shoulder), thick),
        _stroke((neck, hip), thick * 1.6),
        _disc(head, radius),
    ]

    def body(pen: ImageDraw.ImageDraw, fine: float) -> None:
        for stroke in strokes:
            stroke(pen, fine)

    shirt = _filled((left_shoulder, right_shoulder, place(-0.07, -0.02), place(0.07, -0.02)))
    eyes = tuple((_disc(place(side * 0.04, 0.41), 0.018 * tall), 0.25) for side in (1, -1))
    mouth = _stroke((place(0.035, 0.355), place(-0.035, 0.355)), 0.016 * tall)
    xs, ys = [x for x, _ in joints], [y for _, y in joints]
    reach = thick / 2
    low = min(*xs, head[0] - radius + reach) - reach, min(*ys, head[1] - radius + reach) - reach
    high = max(*xs, head[0] + radius - reach) + reach, max(*ys, head[1] + radius - reach) + reach
    return _Item(FIGURE, body, ((shirt, 0.72), *eyes, (mouth, 0.4)), low, high, joints)


def _polygon_item(category: int, corners: Sequence[XY], details: tuple[tuple[Pen, float], ...]) -> _Item:
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    return _Item(category, _filled(corners), details, (min(xs), min(ys)), (max(xs), max(ys)))


def _around(centre: XY, radius: float, angles: Sequence[float]) -> tuple[XY, ...]:
    return tuple((centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles)


def _disc(centre: XY, radius: float) -> Pen:
    def pen(on: ImageDraw.ImageDraw, fine: float) -> None:
        (x, y), r = (centre[0] * fine, centre[1] * fine), radius * fine
        on.ellipse((x - r, y - r, x + r, y + r), fill=255)

    return pen


def _filled(corners: Sequence[XY]) -> Pen:
    return lambda on, fine: on.polygon([(x * fine, y * fine) for x, y in corners], fill=255)


def _stroke(points: Sequence[XY], thick: float) -> Pen:
    def pen(on: ImageDraw.ImageDraw, fine: float) -> None:
        places = [(x * fine, y * fine) for x, y in points]
        on.line(places, fill=255, width=max(1, round(thick * fine)), joint="curve")
        for x, y in places:
            r = thick * fine / 2
            on.ellipse((x - r, y - r, x + r, y + r), fill=255)

    return pen


def _mask(pen: Pen, item: _Item, size: tuple[int, int]) -> tuple[Floats, int, int]:
    """(coverage in 0–1, left, top): only the window around the item, cut at the picture's edge."""
    width, height = size
    left, top = max(0, math.floor(item.low[0]) - 2), max(0, math.floor(item.low[1]) - 2)
    right, bottom = min(width, math.ceil(item.high[0]) + 2), min(height, math.ceil(item.high[1]) + 2)
    if right <= left or bottom <= top:
        return np.zeros((0, 0)), 0, 0
    whole = Image.new("L", (right * FINE, bottom * FINE), 0)
    pen(ImageDraw.Draw(whole), FINE)
    window = whole.crop((left * FINE, top * FINE, right * FINE, bottom * FINE))
    small = window.resize((right - left, bottom - top), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64) / 255, left, top


def _paint(canvas: Floats, item: _Item, random: np.random.Generator, *, faint: bool) -> None:
    height, width = canvas.shape[:2]
    alpha, left, top = _mask(item.outline, item, (width, height))
    rows, columns = alpha.shape
    window = canvas[top : top + rows, left : left + columns]
    hues = HUES[item.category]
    if random.random() < 0.12:  # now and then a colour that another class usually has
        hues = HUES[int(random.integers(1, 5))]
    colour = np.array(hues[int(random.integers(len(hues)))]) + random.normal(0, 12, 3)
    if faint:
        colour = 0.35 * colour + 0.65 * window.mean((0, 1))
    y, x = np.mgrid[top : top + rows, left : left + columns]
    across = (x - item.low[0]) / (item.high[0] - item.low[0])
    down = (y - item.low[1]) / (item.high[1] - item.low[1])
    lit = 1.16 - 0.42 * np.hypot(across - 0.32, down - 0.28)  # light from the upper left
    fill = lit[..., None] * colour
    for pen, brightness in item.details:
        part = _mask(pen, item, (width, height))[0][..., None]
        fill = fill * (1 - part) + fill * brightness * part
    shadow = np.zeros_like(alpha)
    if rows > 3 and columns > 3:
        shadow[3:, 2:] = alpha[:-3, :-2]
    window *= 1 - 0.22 * shadow[..., None]
    window[...] = window * (1 - alpha[..., None]) + fill * alpha[..., None]
