"""Pictures and labels from files: each picture with its labels wholly or not at all, and twice as once."""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

from django.contrib.auth.models import AbstractBaseUser
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction

from labeling import schema as label_schema
from labeling.formats import FORMATS, ImageLabels, PlannedPicture, Problem, inspect
from labeling.formats.base import relative_path
from labeling.formats.folder import PICTURE_SUFFIXES
from labeling.models import ConsensusSource, Image, Project, Task
from labeling.schema import LabelClass, Schema
from labeling.services import consensus, events, pictures, projects
from labeling.shapes import Shape, Tag, clipped

LabelsAs: TypeAlias = Literal["settled", "gold", "ignore"]
LABELS_AS: Final = ("settled", "gold", "ignore")
Progress: TypeAlias = Callable[[int, int], None]
MAX_TASK_NAME: Final = 500


@dataclass
class Report:
    """What an import did: tasks made and found, pictures with labels taken, of these gold, and what was wrong."""

    created: int = 0
    existing: int = 0
    labelled: int = 0
    gold: int = 0
    problems: list[Problem] = field(default_factory=list)


def import_uploads(
    *,
    project: Project,
    files: Iterable[tuple[str, UploadedFile]],
    labels_as: LabelsAs,
    actor: AbstractBaseUser,
    add_classes: bool = False,
) -> Report:
    """Imports uploaded files, each with its path, as a folder; a path that leads out is cut to what stays in."""
    with tempfile.TemporaryDirectory(prefix="labelwheel-upload-") as name:
        folder = Path(name)
        problems: list[Problem] = []
        for asked, file in files:
            try:
                path = folder / relative_path(asked)
                if path == folder or path.exists() or "\x00" in asked:
                    problems.append(Problem(asked, None, "", "is no usable file name, or was sent twice"))
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as out:
                    for chunk in file.chunks():
                        out.write(chunk)
            except OSError as error:
                problems.append(Problem(asked, None, "", f"cannot be stored: {error.strerror}"))
                continue
            if path.suffix.lower() not in PICTURE_SUFFIXES and not _is_label_file(path):
                problems.append(Problem(asked, None, "", "is neither a picture nor a file of labels"))
        report = import_folder(
            project=project, folder=folder, labels_as=labels_as, actor=actor, add_classes=add_classes
        )
    report.problems[:0] = problems
    return report


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
    """Imports a folder of pictures, with the labels that its COCO, VOC or DeepLabCut files hold.

    `labels_as` says what labels become: settled answers that train, gold that measures, or nothing.
    With `test_as_gold`, the pictures of the folder's test split become gold whatever `labels_as` says.
    Classes that the project lacks are problems, or are added.
    """
    plan = inspect(folder)
    report = Report(problems=list(plan.problems))
    wanted = labels_as != "ignore" or test_as_gold
    if wanted and add_classes:
        _add_classes(project, plan.schema, actor)
    class_ids = _class_ids(projects.current_schema(project).schema, plan.schema) if wanted else {}
    for done, planned in enumerate(plan.pictures, start=1):
        gold = test_as_gold and planned.split == "test"
        _import_picture(
            project=project,
            folder=folder,
            planned=planned,
            labels_as="gold" if gold else labels_as,
            class_ids=class_ids,
            file_schema=plan.schema,
            actor=actor,
            report=report,
        )
        on_progress(done, len(plan.pictures))
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
    return report


def _import_picture(
    *,
    project: Project,
    folder: Path,
    planned: PlannedPicture,
    labels_as: LabelsAs,
    class_ids: Mapping[int, int],
    file_schema: Schema,
    actor: AbstractBaseUser,
    report: Report,
) -> None:
    name = planned.path.as_posix()
    if any("\ud800" <= character <= "\udfff" for character in name):  # bytes that are no UTF-8
        shown = name.encode("utf-8", "backslashreplace").decode()
        report.problems.append(Problem(shown, None, "", "has a name that is no text; rename it"))
        return
    try:
        image = pictures.store((folder / planned.path).read_bytes())
    except (pictures.BadPicture, OSError) as error:
        report.problems.append(Problem(name, None, "", str(error)))
        return
    shapes: tuple[Shape, ...] | None = None
    if planned.labels is not None and labels_as != "ignore":
        shapes = _shapes_for(planned.labels, image, class_ids, file_schema, report)
        if shapes is None:
            return
    with transaction.atomic():
        task, created = Task.objects.get_or_create(
            project=project,
            image=image,
            defaults={
                "name": name[:MAX_TASK_NAME],
                "slots": project.answers_per_task,
                "blind": is_blind(project, image),
            },
        )
        if shapes is not None and task.consensus_id is None:
            consensus.set_answer(
                task=task,
                shapes=shapes,
                source=ConsensusSource.EXPERT if labels_as == "gold" else ConsensusSource.IMPORTED,
                actor=actor,
                as_gold=labels_as == "gold",
            )
            report.labelled += 1
            report.gold += labels_as == "gold"
    report.created += created
    report.existing += not created


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
