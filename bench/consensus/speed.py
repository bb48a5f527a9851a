"""How fast methods are, in seconds of one core's time: by images, by people, by objects, and for one submit."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np

from bench.consensus.crowds import TYPICAL, Recipe, generate
from bench.consensus.metrics import BOX_METHODS
from labeling.consensus import DEFAULT_METHOD, Answer

Say = Callable[[str], None]

TEN_BOXES: Final[Recipe] = replace(
    TYPICAL,
    people=5,
    answers=5,
    objects=(10, 10),
    recall=(0.94, 0.99),
    noise=(0.0, 0.2),
    lookalike_places=0.5,
)
THOUSAND_BOXES: Final[Recipe] = replace(
    TEN_BOXES, people=3, answers=3, objects=(1000, 1000), size_px=24.0, size_sigma=0.3, overlap=1.0
)
IMAGES: Final = (250, 500, 1000, 2000, 4000)
QUICK_IMAGES: Final = (100, 200, 400)
PEOPLE: Final = (2, 5, 10, 20, 50)
IMAGES_FOR_PEOPLE: Final = 100
SUBMITS: Final = 300


def run(*, quick: bool, say: Say) -> dict[str, Any]:
    """`images_per_s`, `seconds_1000x3`, `online_ms` of the default method; the same and the growth by method."""
    counts = QUICK_IMAGES if quick else IMAGES
    many = generate("speed", 1, counts[-1], TEN_BOXES).answers
    by_image = _by_image(many)
    thousand = generate("speed-1000", 1, 3, THOUSAND_BOXES)  # the first that is not empty
    one = next(image for image, shapes in thousand.truth.items() if shapes)
    crowd = [answer for answer in thousand.answers if answer.image == one]
    methods: dict[str, Any] = {}
    for name, method in BOX_METHODS.items():
        say(f"speed of {name}")
        growth = {
            count: seconds(partial(method.fit_predict, [one for own in by_image[:count] for one in own]))
            for count in counts
        }
        people = {count: _seconds_for_people(name, count) for count in (PEOPLE[:3] if quick else PEOPLE)}
        methods[name] = {
            "images_per_s": round(counts[-1] / growth[counts[-1]]),
            "seconds_1000x3": round(min(seconds(partial(method.fit_predict, crowd)) for _ in range(3)), 3),
            "online_ms": _online_ms(name, by_image, SUBMITS // 3 if quick else SUBMITS),
            "seconds_by_images": {str(count): round(value, 3) for count, value in growth.items()},
            "seconds_by_people": {str(count): round(value, 3) for count, value in people.items()},
        }
    ours = methods[DEFAULT_METHOD]
    return {
        "images_per_s": ours["images_per_s"],
        "seconds_1000x3": ours["seconds_1000x3"],
        "online_ms": ours["online_ms"]["p50"],
        "online_p95_ms": ours["online_ms"]["p95"],
        "methods": methods,
    }


def seconds(call: Callable[[], object]) -> float:
    """This process's CPU time: other work on the machine does not count, more threads would."""
    start = time.process_time()
    call()
    return time.process_time() - start


def _seconds_for_people(name: str, people: int) -> float:
    """So many people, who all answer the same hundred images of ten boxes."""
    recipe = replace(TEN_BOXES, people=people, answers=people)
    answers = generate(f"speed-{people}", 1, IMAGES_FOR_PEOPLE, recipe).answers
    return seconds(lambda: BOX_METHODS[name].fit_predict(answers))


def _online_ms(name: str, by_image: Sequence[Sequence[Answer]], submits: int) -> dict[str, float]:
    """One image settled anew with frozen parameters, as after a submit: median and 95th percentile."""
    method = BOX_METHODS[name]
    known = by_image[: max(len(by_image) // 2, 1)]
    parameters = method.fit([answer for answers in known for answer in answers]).parameters
    times = []
    for answers in by_image[-submits:]:
        start = time.process_time()
        method.predict(answers, parameters)
        times.append(1000 * (time.process_time() - start))
    return {"p50": round(float(np.median(times)), 2), "p95": round(float(np.quantile(times, 0.95)), 2)}


def _by_image(answers: Sequence[Answer]) -> list[list[Answer]]:
    images: dict[str, list[Answer]] = {}
    for answer in answers:
        images.setdefault(answer.image, []).append(answer)
    return list(images.values())
