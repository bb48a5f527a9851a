"""Pictures and labels from files: each picture with its labels wholly or not at all, and twice as once.

A job imports an upload, the command line a folder; both plan first (`labeling.formats.inspect`), then take in
batches of pictures, each in one short transaction. Decoding comes before it, so that nobody waits for that.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import islice
from os import cpu_count
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone

from labeling import schema as label_schema
from labeling import storage
from labeling.formats import FORMATS, FolderPlan, ImageLabels, PlannedPicture, Problem, inspect
from labeling.formats.base import ProblemList
from labeling.formats.folder import LABEL_SUFFIXES, PICTURE_SUFFIXES
from labeling.models import ConsensusSource, Image, Project, Task, TaskState, Upload, UploadedFile
from labeling.schema import LabelClass, Schema
from labeling.services import consensus, events, jobs, overlap, pictures, projects, uploads
from labeling.shapes import Json, Shape, Tag, clipped

LabelsAs: TypeAlias = Literal["settled", "gold", "ignore"]
LABELS_AS: Final = ("settled", "gold", "ignore")
Progress: TypeAlias = Callable[[int, int], None]
Read: TypeAlias = Callable[[str], bytes]
"""A planned picture's bytes by its path. Raises `OSError`, `MissingBlob`, `CorruptBlob`, `StoreUnavailable`."""
MAX_TASK_NAME: Final = 500
BATCH: Final = 64
"""Pictures to a transaction: enough to be quick, few enough that on SQLite annotators hardly wait."""
DECODERS: Final = max(1, min(4, cpu_count() or 1))
CHUNK: Final = 2_000


@dataclass
class Report:
    """What an import did: tasks made and found, pictures with labels taken, of these gold, and what was wrong."""

    created: int = 0
    existing: int = 0
    labelled: int = 0
    gold: int = 0
    problems: ProblemList = field(default_factory=ProblemList)

    def add(self, other: "Report") -> None:
        self.created += other.created
        self.existing += other.existing
        self.labelled += other.labelled
        self.gold += other.gold
        self.problems.extend(other.problems, other.problems.more)

    def dump(self) -> Json:
        return {
            "created": self.created,
            "existing": self.existing,
            "labelled": self.labelled,
            "gold": self.gold,
            "problems": [[item.file, item.line, item.field, item.reason] for item in self.problems],
            "more_problems": self.problems.more,
        }

    @staticmethod
    def parse(raw: Json) -> "Report":
        """What `dump` gave."""
        problems = ProblemList((Problem(*item) for item in raw["problems"]), raw["more_problems"])
        return Report(raw["created"], raw["existing"], raw["labelled"], raw["gold"], problems)


def run(*, running: jobs.Running) -> dict[str, Any]:
    """The job that imports an upload; its result is the report.

    A worker that is killed is followed by one that goes on behind the last batch: the batch, the report so far
    and the place in the plan are written in one transaction, and the same files give the same plan.
    """
    params = running.params
    project = Project.objects.get(pk=params["project"])
    upload = Upload.objects.filter(pk=params["upload"]).first()
    if upload is None:
        raise jobs.CannotRun("the uploaded files are gone; send them again")
    if running.job.created_by_id is None:
        raise jobs.CannotRun("whoever asked for this is gone; start the import again")
    actor = get_user_model().objects.get(pk=running.job.created_by_id)
    folder = settings.WORK_DIRECTORY / "imports" / str(running.job.pk) / str(running.token)
    try:
        running.report(0.0, "reading the labels")
        others = _fetch_labels(upload, folder, running)
        plan = inspect(folder, pictures=_uploaded_pictures(upload), known=lambda: _known(project))
        report, position, done = Report(), 0, 0
        sha256_of: dict[str, str] = {}
        before = running.checkpoint
        if before:
            report, position, done = Report.parse(before["report"]), before["position"], before["done"]
        else:
            report.problems.extend(Problem(*item) for item in params.get("problems", []))
            report.problems.extend(others)
            report.problems.extend(plan.problems, plan.problems.more)
        importer = _Importer(
            project=project,
            plan=plan,
            read=lambda path: uploads.read(upload, sha256_of[path]),
            labels_as=params["labels_as"],
            test_as_gold=params.get("test_as_gold", False),
            add_classes=params["add_classes"],
            actor=actor,
            report=report,
        )
        total = len(plan.pictures)

        def keep(at: int, count: int) -> None:
            running.keep(
                count / max(total, 1),
                f"{count:,} of {total:,} pictures",
                checkpoint={"report": importer.report.dump(), "position": at, "done": count},
            )
            running.partial = importer.report.dump()
            running.left = (
                f"{count:,} of {total:,} pictures were gone through; running it again adds the rest."
            )

        for batch in _batches(plan.after(position)):
            paths = [planned.path.as_posix() for planned in batch if planned.known is None]
            sha256_of = dict(
                UploadedFile.objects.filter(upload=upload, path__in=paths).values_list("path", "sha256")
            )
            done += len(batch)
            importer.take(batch, done, holding=running.holding, keep=keep, sha256_of=sha256_of)
            running.check()
        _tell(project, actor, importer.report)
        if not importer.report.problems:
            uploads.clear(upload=upload)
        return importer.report.dump()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def import_folder(
    *,
    project: Project,
    folder: Path,
    labels_as: LabelsAs,
    actor: AbstractBaseUser,
    test_as_gold: bool = False,
    add_classes: bool = False,
    on_progress: Progress = lambda done, total: None,
) -> Report:
    """Imports a folder of pictures, with the labels that its label files hold.

    `labels_as` says what labels become: settled answers that train, gold that measures, or nothing.
    With `test_as_gold`, the pictures of the folder's test split become gold whatever `labels_as` says; what our
    own format calls gold stays gold. Classes that the project lacks are problems, or are added.
    """
    plan = inspect(folder, known=lambda: _known(project))
    report = Report()
    report.problems.extend(plan.problems, plan.problems.more)
    importer = _Importer(
        project=project,
        plan=plan,
        read=lambda path: (folder / path).read_bytes(),
        labels_as=labels_as,
        test_as_gold=test_as_gold,
        add_classes=add_classes,
        actor=actor,
        report=report,
    )
    total, done = len(plan.pictures), 0
    for batch in _batches(iter(plan.pictures)):
        done += len(batch)
        importer.take(batch, done, holding=transaction.atomic, keep=lambda at, count: None, sha256_of={})
        on_progress(done, total)
    _tell(project, actor, report)
    return report


def _tell(project: Project, actor: AbstractBaseUser, report: Report) -> None:
    events.record(
        project=project,
        actor=actor,
        verb="import",
        subject=project,
        data={
            "created": report.created,
            "existing": report.existing,
            "labelled": report.labelled,
            "problems": len(report.problems),
        },
    )


@dataclass(frozen=True, slots=True)
class _Ready:
    """A planned picture with the row of its image, saved or new, and its labels in the project's classes."""

    planned: PlannedPicture
    image: Image
    shapes: tuple[Shape, ...] | None
    gold: bool


class _Importer:
    """Takes batches of planned pictures into a project."""

    def __init__(
        self,
        *,
        project: Project,
        plan: FolderPlan,
        read: Read,
        labels_as: LabelsAs,
        test_as_gold: bool,
        add_classes: bool,
        actor: AbstractBaseUser,
        report: Report,
    ) -> None:
        self.project = project
        self.plan = plan
        self.read = read
        self.labels_as = labels_as
        self.test_as_gold = test_as_gold
        self.actor = actor
        self.report = report
        wanted = labels_as != "ignore" or test_as_gold
        if wanted and add_classes:
            _add_classes(project, plan.schema, actor)
        self.class_ids = _class_ids(projects.current_schema(project).schema, plan.schema) if wanted else {}

    def take(
        self,
        batch: Sequence[PlannedPicture],
        done: int,
        *,
        holding: Callable[[], AbstractContextManager[None]],
        keep: Callable[[int, int], None],
        sha256_of: Mapping[str, str],
    ) -> None:
        """Imports a batch in one transaction, `keep` in it; what cannot be imported is a problem in the report."""
        found = Report()
        ready = self._prepared(batch, sha256_of, found)
        before = replace(self.report, problems=ProblemList(self.report.problems, self.report.problems.more))
        try:
            with holding():
                self._write(ready, found)
                self.report.add(found)
                keep(batch[-1].position, done)
        except BaseException:
            self.report = before
            raise

    def _prepared(
        self, batch: Sequence[PlannedPicture], sha256_of: Mapping[str, str], found: Report
    ) -> list[_Ready]:
        """What needs no transaction: pictures read, decoded and stored, labels fitted to them."""
        known = {
            task.pk: task.image
            for task in Task.objects.filter(
                project=self.project, pk__in=[planned.known for planned in batch if planned.known is not None]
            ).select_related("image")
        }
        with ThreadPoolExecutor(DECODERS) as pool:
            if not sha256_of:
                names = [planned.path.as_posix() for planned in batch if planned.known is None]
                sha256_of = dict(zip(names, pool.map(self._sha256, names), strict=True))
            there = {
                image.sha256: image for image in Image.objects.filter(sha256__in=set(sha256_of.values()))
            }
            images = pool.map(lambda planned: self._image(planned, known, there, sha256_of), batch)
            ready = []
            for planned, image in zip(batch, images, strict=True):
                if isinstance(image, Problem):
                    found.problems.append(image)
                    continue
                gold = self._becomes_gold(planned)
                shapes: tuple[Shape, ...] | None = None
                if planned.labels is not None and (gold or self.labels_as != "ignore"):
                    shapes = _shapes_for(planned.labels, image, self.class_ids, self.plan.schema, found)
                    if shapes is None:
                        continue
                ready.append(_Ready(planned, image, shapes, gold))
        return ready

    def _sha256(self, path: str) -> str:
        """Nothing if the file cannot be read, which will be told when it is looked at."""
        try:
            return storage.sha256_of(self.read(path))
        except OSError:
            return ""

    def _becomes_gold(self, planned: PlannedPicture) -> bool:
        if self.test_as_gold and planned.split == "test":
            return True
        if self.labels_as == "ignore":
            return False
        return self.labels_as == "gold" or (planned.labels is not None and planned.labels.gold)

    def _image(
        self,
        planned: PlannedPicture,
        known: Mapping[int, Image],
        there: Mapping[str, Image],
        sha256_of: Mapping[str, str],
    ) -> Image | Problem:
        """The picture's row. Runs in a thread of its own and asks no database."""
        name = planned.path.as_posix()
        if planned.known is not None:
            image = known.get(planned.known)
            return image or Problem(name, None, "", "was in the project, and is gone")
        if any("\ud800" <= character <= "\udfff" for character in name):  # bytes that are no UTF-8
            shown = name.encode("utf-8", "backslashreplace").decode()
            return Problem(shown, None, "", "has a name that is no text; rename it")
        if sha256_of.get(name) in there:
            return there[sha256_of[name]]
        try:
            return pictures.keep_bytes(self.read(name))
        except (
            pictures.BadPicture, OSError, storage.MissingBlob, storage.CorruptBlob, KeyError
        ) as error:  # fmt: skip
            return Problem(name, None, "", str(error))

    def _write(self, ready: Sequence[_Ready], found: Report) -> None:
        # Two imports at once take turns, so that a picture in both becomes one task.
        project = Project.objects.select_for_update(no_key=True).get(pk=self.project.pk)
        images = self._images(ready)
        tasks: dict[int, Task] = {
            task.image_id: task
            for task in Task.objects.filter(project=project, image__in=images.values()).select_related(
                "image"
            )
        }
        now = timezone.now()
        made: list[Task] = []
        settled: list[tuple[Task, tuple[Shape, ...], bool]] = []
        later: list[tuple[Task, _Ready]] = []
        for item in ready:
            image = images[item.image.sha256]
            task = tasks.get(image.pk)
            if task is not None:
                found.existing += 1
                if item.shapes is not None:
                    later.append((task, item))
                continue
            task = Task(
                project=project,
                image=image,
                name=item.planned.path.as_posix()[:MAX_TASK_NAME],
                slots=overlap.first(project),
                blind=is_blind(project, image),
            )
            tasks[image.pk] = task
            made.append(task)
            if item.shapes is not None:
                task.state, task.slots, task.is_gold = TaskState.SETTLED, 0, item.gold
                task.risk, task.settled_at = 0.0, now
                settled.append((task, item.shapes, item.gold))
        Task.objects.bulk_create(made)
        consensus.set_first_answers(
            project=project,
            answers=[(task, shapes) for task, shapes, _ in settled],
            source={task.pk: _source(gold) for task, _, gold in settled},
            actor=self.actor,
        )
        found.created += len(made)
        found.labelled += len(settled)
        found.gold += sum(gold for _, _, gold in settled)
        for task, item in later:
            if task.consensus_id is None and item.shapes is not None:
                task.consensus = consensus.set_answer(
                    task=task,
                    shapes=item.shapes,
                    source=_source(item.gold),
                    actor=self.actor,
                    as_gold=item.gold,
                )
                found.labelled += 1
                found.gold += item.gold

    def _images(self, ready: Sequence[_Ready]) -> dict[str, Image]:
        """The saved rows by sha256."""
        new = {item.image.sha256: item.image for item in ready if item.image._state.adding}
        Image.objects.bulk_create(new.values(), ignore_conflicts=True)
        return {
            image.sha256: image
            for image in Image.objects.filter(sha256__in={item.image.sha256 for item in ready})
        }


def _source(gold: bool) -> ConsensusSource:
    return ConsensusSource.EXPERT if gold else ConsensusSource.IMPORTED


def _batches(planned: Iterator[PlannedPicture]) -> Iterator[list[PlannedPicture]]:
    while batch := list(islice(planned, BATCH)):
        yield batch


def _known(project: Project) -> Iterable[tuple[int, str, str]]:
    rows = Task.objects.filter(project=project).order_by("id").values_list("id", "name", "image__sha256")
    return rows.iterator(chunk_size=CHUNK)


def _uploaded_pictures(upload: Upload) -> Iterator[tuple[str, str]]:
    for path, sha256 in (
        UploadedFile.objects.filter(upload=upload)
        .order_by("path")
        .values_list("path", "sha256")
        .iterator(chunk_size=CHUNK)
    ):
        if Path(path).suffix.lower() in PICTURE_SUFFIXES:
            yield path, sha256


def _fetch_labels(upload: Upload, folder: Path, running: jobs.Running) -> list[Problem]:
    """Brings what is no picture onto this machine; tells which of it is no label file either."""
    problems = []
    folder.mkdir(parents=True, exist_ok=True)
    for file in UploadedFile.objects.filter(upload=upload).order_by("path").iterator(chunk_size=CHUNK):
        suffix = Path(file.path).suffix.lower()
        if suffix in PICTURE_SUFFIXES:
            continue
        is_split = suffix == ".txt" and Path(file.path).parts[-3:-1] == ("ImageSets", "Main")
        if suffix in LABEL_SUFFIXES or is_split:
            to = folder / file.path
            try:
                uploads.fetch(upload, file, to)
            except (OSError, storage.MissingBlob, storage.CorruptBlob) as error:
                problems.append(Problem(file.path, None, "", str(error)))
                continue
            running.check()
            if is_split or _is_label_file(to):
                continue
        problems.append(Problem(file.path, None, "", "is neither a picture nor a file of labels"))
    return problems


def _is_label_file(path: Path) -> bool:
    return any(item.sniff(path) for item in FORMATS.values())


def is_blind(project: Project, image: Image) -> bool:
    """Whether this picture is one of the share that is answered without suggestions; always the same for it."""
    drawn = hashlib.sha256(f"blind:{project.pk}:{image.sha256}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") / 2**64 < project.blind_share


def _shapes_for(
    labels: ImageLabels,
    image: Image,
    class_ids: Mapping[int, int],
    file_schema: Schema,
    report: Report,
) -> tuple[Shape, ...] | None:
    """The file's shapes with the project's class ids, inside the picture; nothing, and a problem, if they don't fit."""
    if labels.sha256 and labels.sha256 != image.sha256:
        reason = "labels are for a picture of this name with other bytes"
        report.problems.append(Problem(labels.source, None, labels.file_name, reason))
        return None
    told = (labels.width, labels.height)
    if None not in told and told != (image.width, image.height):
        reason = (
            f"labels are for {told[0]} × {told[1]} pixels, the picture has {image.width} × {image.height}"
        )
        report.problems.append(Problem(labels.source, None, labels.file_name, reason))
        return None
    shapes: list[Shape] = []
    for shape in labels.shapes:
        if shape.class_id not in class_ids:
            unknown = file_schema.by_id(shape.class_id)
            named = unknown.name if unknown is not None else str(shape.class_id)
            reason = f"class {named} is not in the project's schema; add it there, or import with its classes"
            report.problems.append(Problem(labels.source, None, labels.file_name, reason))
            return None
        cut = clipped(
            replace(shape, class_id=class_ids[shape.class_id]), width=image.width, height=image.height
        )
        if not isinstance(cut, Tag) and cut.xyxy is not None and _is_outside(cut.xyxy, image):
            reason = f"shape {shape.id} lies outside the picture and was left out"
            report.problems.append(Problem(labels.source, None, labels.file_name, reason))
            continue
        shapes.append(cut)
    return tuple(shapes)


def _is_outside(xyxy: tuple[float, float, float, float], image: Image) -> bool:
    x1, y1, x2, y2 = xyxy
    return x2 <= 0 or y2 <= 0 or x1 >= image.width or y1 >= image.height


def _class_ids(own: Schema, files: Schema) -> dict[int, int]:
    """The file's class ids → the project's, by name, kind and joints."""
    return {item.id: match.id for item in files.classes for match in own.classes if _same_class(item, match)}


def _same_class(first: LabelClass, second: LabelClass) -> bool:
    if (first.name, first.kind) != (second.name, second.kind):
        return False
    if first.skeleton is None or second.skeleton is None:
        return True
    return first.skeleton.joints == second.skeleton.joints


def _add_classes(project: Project, files: Schema, actor: AbstractBaseUser) -> None:
    current = projects.current_schema(project)
    missing = [
        item for item in files.classes if not any(_same_class(item, own) for own in current.schema.classes)
    ]
    if not missing:
        return
    ever_used = {item.id for version in project.schema_versions.all() for item in version.schema.classes}
    keys = {item.key for item in current.schema.classes}
    added = list(current.schema.classes)
    for item in missing:
        class_id = item.id if item.id not in ever_used else max(ever_used) + 1
        ever_used.add(class_id)
        key = item.key if item.key not in keys else ""
        keys.add(key)
        added.append(replace(item, id=class_id, key=key))
    projects.save_schema(
        project=project,
        schema=label_schema.parse(label_schema.dump(Schema(tuple(added)))),
        base_version=current.number,
        actor=actor,
    )
