"""A simulated annotator: makes people's mistakes, and costs their seconds.

It knows what is truly in a picture, sees some of it, and answers by hand or by deciding about suggestions.
Nothing waits: an answer carries the steps that a person would have taken, and their time is computed.

The seconds are those of published studies where there are any: drawing a box by extreme clicking 7.0 s
(Papadopoulos et al., ICCV 2017), verifying one 1.8 s (Papadopoulos et al., CVPR 2016), drawing one with
quality control 25.5 s (Su et al., AAAI workshops 2012).
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final, Literal, TypeAlias

import numpy as np

from labeling.consensus.candidates import extent_of
from labeling.geometry import Floats, iou_xyxy, match_greedy
from labeling.schema import LabelClass, Schema
from labeling.shapes import XYXY, Box, Keypoints, Point, Shape, Tag, clipped

DrawnObject: TypeAlias = Box | Keypoints
Action: TypeAlias = Literal[
    "open", "sweep", "accept", "accept_joint", "nudge_pair", "relabel", "delete", "draw", "place_joint", "move_joint"
]  # fmt: skip

GOOD_IOU: Final = 0.7
"""A suggestion that overlaps an object so well is taken as it is."""
SAME_IOU: Final = 0.35
"""Below this overlap a person does not mend a suggestion but deletes it."""
EDGE_OFF: Final = 0.05
"""While mending, an edge is moved when it is off by more than this share of the box's side."""
JOINT_OFF: Final = 0.1
"""A joint is off when it is farther from its place than this share of the object's size."""
SMALL_SHARE: Final = 0.005
"""An object is small when it covers less of the picture than this (about 40 × 40 in 640 × 480)."""
HASTE_SIGMA: Final = 0.35
LEAST_SIDE_PX: Final = 2.0


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of each action; `nudge_pair` is for two edges, which one drag of a corner moves."""

    open: float = 2.0
    sweep: float = 1.5
    accept: float = 1.8
    accept_joint: float = 0.15
    nudge_pair: float = 3.8
    relabel: float = 2.9
    delete: float = 2.9
    draw: float = 7.0
    place_joint: float = 2.0
    move_joint: float = 3.1

    def times(self, factor: float) -> "Costs":
        return Costs(**{item.name: factor * getattr(self, item.name) for item in fields(self)})


NOMINAL: Final = Costs()
LOW: Final = NOMINAL.times(0.7)
"""A practised hand."""
HIGH: Final = replace(NOMINAL.times(1.5), draw=25.5)
"""A slow one, that draws as carefully as ILSVRC's did."""


@dataclass(frozen=True, slots=True)
class Skill:
    """How one person errs; shares and probabilities are in 0…1.

    `misses` and `misses_small`: the share of objects overlooked. `jitter`: the standard deviation of an edge,
    in box sides, and of a joint, in object sizes. `false_alarms`: boxes around nothing, a picture. `confuses`:
    the share of own boxes with a wrong class. `slips`: the share of joints that land far off. `swaps`: the
    share of poses with left and right exchanged. `accepts_wrong`: the probability of letting a suggestion's
    fault pass.
    """

    misses: float
    misses_small: float
    jitter: float
    false_alarms: float
    confuses: float
    slips: float
    swaps: float
    accepts_wrong: float


CAREFUL: Final = Skill(
    misses=0.005, misses_small=0.03, jitter=0.02, false_alarms=0.02, confuses=0.01, slips=0.005, swaps=0.01,
    accepts_wrong=0.05,
)  # fmt: skip
AVERAGE: Final = Skill(
    misses=0.03, misses_small=0.08, jitter=0.035, false_alarms=0.1, confuses=0.03, slips=0.02, swaps=0.03,
    accepts_wrong=0.07,
)  # fmt: skip
SLOPPY: Final = Skill(
    misses=0.08, misses_small=0.2, jitter=0.06, false_alarms=0.3, confuses=0.08, slips=0.05, swaps=0.08,
    accepts_wrong=0.1,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Picture:
    """What is truly in a picture of `width` × `height` pixels. Tags are no part of the simulation."""

    name: str
    width: int
    height: int
    truth: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One action; `haste` is how much longer than usual it took (lognormal, mean 1)."""

    action: Action
    haste: float = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    shapes: tuple[Shape, ...]
    steps: tuple[Step, ...]

    def seconds(self, costs: Costs = NOMINAL) -> float:
        return sum(step.haste * _cost(costs, step.action) for step in self.steps)

    def count(self, action: Action) -> int:
        return sum(step.action == action for step in self.steps)


@dataclass(frozen=True, slots=True)
class SimulatedAnnotator:
    """A person who labels with `schema`. The same person gives the same answer to the same question."""

    name: str
    skill: Skill
    schema: Schema
    seed: int = 0

    def by_hand(self, picture: Picture) -> Answer:
        """The answer without suggestions: every object that is noticed is drawn."""
        return self.answer(picture, ())

    def answer(self, picture: Picture, suggestions: Sequence[Shape]) -> Answer:
        """The answer after deciding about each suggestion and drawing what is still missing."""
        return _Session(self, picture, suggestions).run()


class _Session:
    """One picture in front of one person."""

    def __init__(self, person: SimulatedAnnotator, picture: Picture, suggestions: Sequence[Shape]) -> None:
        name = f"{person.seed}:{person.name}:{picture.name}:{len(suggestions)}"
        digest = hashlib.sha256(name.encode()).digest()
        self.random = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        self.skill, self.schema, self.picture = person.skill, person.schema, picture
        self.truth = _drawn(picture.truth)
        self.suggestions = _drawn(suggestions)
        self.shapes: list[Shape] = []
        self.steps: list[Step] = []

    def run(self) -> Answer:
        self.do("open")
        pairs = dict(match_greedy(_overlaps(self.suggestions, self.truth), SAME_IOU))
        for index, suggestion in enumerate(self.suggestions):
            if index in pairs:
                self.judge(suggestion, self.truth[pairs[index]])
            elif self.lets_pass():
                self.accept(suggestion)
            else:
                self.do("delete")
        for index, target in enumerate(self.truth):
            if index not in pairs.values() and self.notices(target):
                self.draw(target)
        for _ in range(self.random.poisson(self.skill.false_alarms)):
            self.imagine()
        self.do("sweep")
        return Answer(tuple(self.shapes), tuple(self.steps))

    def judge(self, suggestion: DrawnObject, target: DrawnObject) -> None:
        """Takes a suggestion for this object as it is, mends it, or deletes it and draws the object anew."""
        mended, actions = self.mended(suggestion, target)
        if not actions:
            self.accept(suggestion)
            return
        actions += _looking_over(suggestion)
        anew: list[Action] = [*self.drawing(target), "delete"]
        if sum(_cost(NOMINAL, action) for action in actions) > sum(_cost(NOMINAL, a) for a in anew):
            self.do("delete")
            self.draw(target)
            return
        for action in actions:
            self.do(action)
        self.keep(replace(mended, provenance="human_edited"))

    def mended(self, suggestion: DrawnObject, target: DrawnObject) -> tuple[DrawnObject, list[Action]]:
        """The suggestion with the faults repaired that this person sees, and what that takes."""
        shape, actions = suggestion, list[Action]()
        if shape.class_id != target.class_id and not self.lets_pass():
            shape = replace(shape, class_id=target.class_id)
            actions.append("relabel")
        if shape.xyxy is not None and target.xyxy is not None and not self.fits(shape.xyxy, target.xyxy):
            wanted = self.jittered(target.xyxy)
            box, moved = list(shape.xyxy), 0
            for edge in range(4):
                side = target.xyxy[2 + edge % 2] - target.xyxy[edge % 2]
                if abs(box[edge] - target.xyxy[edge]) > EDGE_OFF * side:
                    box[edge], moved = wanted[edge], moved + 1
            shape = replace(shape, xyxy=_with_area((box[0], box[1], box[2], box[3])))
            actions += ["nudge_pair"] * math.ceil(moved / 2)
        if isinstance(shape, Keypoints) and isinstance(target, Keypoints):
            points, moves = self.mended_points(shape, target)
            shape = replace(shape, points=points)
            actions += moves
        return shape, actions

    def mended_points(self, shape: Keypoints, target: Keypoints) -> tuple[tuple[Point, ...], list[Action]]:
        points, actions = list(shape.points), list[Action]()
        reach = JOINT_OFF * _size(target)
        for joint, (x, y, v) in enumerate(target.points):
            own = points[joint]
            if v == 0 and own[2] == 0:
                continue
            off = v == 0 or own[2] == 0 or math.hypot(own[0] - x, own[1] - y) > reach
            if off and not self.lets_pass():
                actions.append("place_joint" if own[2] == 0 else "move_joint")
                points[joint] = self.clicked((x, y, v), target)
        return tuple(points), actions

    def fits(self, box: XYXY, target: XYXY) -> bool:
        return float(iou_xyxy([box], [target])[0, 0]) >= GOOD_IOU or self.lets_pass()

    def accept(self, suggestion: DrawnObject) -> None:
        self.do("accept")
        for action in _looking_over(suggestion):
            self.do(action)
        self.keep(replace(suggestion, provenance="human_accepted"))

    def draw(self, target: DrawnObject) -> None:
        for action in self.drawing(target):
            self.do(action)
        class_id = self.class_in_mind(target.class_id)
        box = None if target.xyxy is None else self.jittered(target.xyxy)
        if isinstance(target, Box):
            assert box is not None
            self.keep(Box(self.new_id(), class_id, box))
            return
        points = [self.clicked(point, target) for point in target.points]
        skeleton = _class(self.schema, target.class_id).skeleton
        if skeleton is not None and self.random.random() < self.skill.swaps:
            points = [points[joint] for joint in skeleton.flip_index]
        self.keep(Keypoints(self.new_id(), class_id, tuple(points), box))

    def drawing(self, target: DrawnObject) -> list[Action]:
        """What it takes to draw an object: its box, where it has one, and its joints."""
        joints = sum(v > 0 for _, _, v in target.points) if isinstance(target, Keypoints) else 0
        box: list[Action] = [] if target.xyxy is None else ["draw"]
        placed: list[Action] = ["place_joint"]
        return box + joints * placed

    def imagine(self) -> None:
        """Draws a box around nothing, as large as one that is there."""
        boxes = [item for item in self.truth if isinstance(item, Box)]
        if not boxes:
            return
        like = boxes[int(self.random.integers(len(boxes)))]
        wide, high = like.xyxy[2] - like.xyxy[0], like.xyxy[3] - like.xyxy[1]
        x = float(self.random.uniform(0, max(1.0, self.picture.width - wide)))
        y = float(self.random.uniform(0, max(1.0, self.picture.height - high)))
        self.do("draw")
        self.keep(Box(self.new_id(), like.class_id, (x, y, x + wide, y + high)))

    def notices(self, target: DrawnObject) -> bool:
        share = _size(target) ** 2 / (self.picture.width * self.picture.height)
        overlooks = self.skill.misses_small if share < SMALL_SHARE else self.skill.misses
        return bool(self.random.random() >= overlooks)

    def lets_pass(self) -> bool:
        return bool(self.random.random() < self.skill.accepts_wrong)

    def class_in_mind(self, class_id: int) -> int:
        """The class, or now and then another that is drawn in the same way."""
        own = _class(self.schema, class_id)
        others = [
            item.id
            for item in self.schema.classes
            if item.id != class_id and (item.kind, item.skeleton) == (own.kind, own.skeleton)
        ]
        if others and self.random.random() < self.skill.confuses:
            return others[int(self.random.integers(len(others)))]
        return class_id

    def jittered(self, box: XYXY) -> XYXY:
        x1, y1, x2, y2 = box
        sides = np.array([x2 - x1, y2 - y1, x2 - x1, y2 - y1])
        shaky = np.array(box) + self.random.normal(0, 1, 4) * np.maximum(self.skill.jitter * sides, 0.5)
        left, top, right, bottom = shaky.tolist()
        return _with_area((left, top, right, bottom))

    def clicked(self, point: Point, target: DrawnObject) -> Point:
        """A joint where this person puts it: near its place, or, when the hand slips, anywhere about the object."""
        x, y, v = point
        if v == 0:
            return point
        size = _size(target)
        spread = 0.5 * size if self.random.random() < self.skill.slips else self.skill.jitter * size
        dx, dy = self.random.normal(0, max(spread, 0.5), 2).tolist()
        inside = min(max(x + dx, 0.0), self.picture.width), min(max(y + dy, 0.0), self.picture.height)
        return float(inside[0]), float(inside[1]), v

    def keep(self, shape: DrawnObject) -> None:
        cut = clipped(replace(shape, score=None), width=self.picture.width, height=self.picture.height)
        self.shapes.append(cut)

    def do(self, action: Action) -> None:
        haste = math.exp(self.random.normal(-(HASTE_SIGMA**2) / 2, HASTE_SIGMA))
        self.steps.append(Step(action, haste))

    def new_id(self) -> str:
        return f"own-{len(self.shapes)}"


def _drawn(shapes: Sequence[Shape]) -> list[DrawnObject]:
    return [shape for shape in shapes if not isinstance(shape, Tag) and extent_of(shape) is not None]


def _looking_over(suggestion: DrawnObject) -> list[Action]:
    """What verifying a pose takes beyond a box; mending one takes it too."""
    joints = len(suggestion.points) if isinstance(suggestion, Keypoints) else 0
    joint: list[Action] = ["accept_joint"]
    return joints * joint


def _overlaps(suggestions: Sequence[DrawnObject], truth: Sequence[DrawnObject]) -> Floats:
    """IoU [suggestions, truth], 0 between a box and a pose; joints without a box stand for their hull."""
    overlap = iou_xyxy([_extent(item) for item in suggestions], [_extent(item) for item in truth])
    same_kind = np.array([[type(one) is type(other) for other in truth] for one in suggestions], dtype=bool)
    return np.where(same_kind.reshape(overlap.shape), overlap, 0.0)


def _extent(item: DrawnObject) -> XYXY:
    extent = extent_of(item)
    assert extent is not None
    return extent


def _size(item: DrawnObject) -> float:
    """The root of the area, in pixels."""
    x1, y1, x2, y2 = _extent(item)
    return math.sqrt((x2 - x1) * (y2 - y1))


def _with_area(box: XYXY) -> XYXY:
    """The box with its corners in order and no side shorter than `LEAST_SIDE_PX`."""
    x1, y1, x2, y2 = box
    left, top = min(x1, x2), min(y1, y2)
    return left, top, max(x1, x2, left + LEAST_SIDE_PX), max(y1, y2, top + LEAST_SIDE_PX)


def _class(schema: Schema, class_id: int) -> LabelClass:
    found = schema.by_id(class_id)
    if found is None:
        raise ValueError(f"class {class_id} is not in the schema")
    return found


def _cost(costs: Costs, action: Action) -> float:
    return float(getattr(costs, action))
