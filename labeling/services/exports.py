"""Labels as files, written by a job picture by picture and kept in the store.

What is written: every picture that was settled when the export began and is settled when its turn comes, in
the order of the tasks, with the answer that is in force at its turn. Of people's answers, the current ones.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias
from uuid import uuid4

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Max

from labeling import selectors, storage
from labeling.formats import Coco, Jsonl
from labeling.formats.base import AnswerRow, PictureRow, RowWriter
from labeling.formats.jsonl import JsonlWriter
from labeling.formats.report import LossLedger
from labeling.models import Annotation, Job, Project, Task, TaskState
from labeling.schema import Schema
from labeling.services import jobs, projects
from labeling.shapes import Json

CONTENT_TYPES: Final = {"coco": "application/json", "jsonl": "application/jsonl"}
WRITERS: Final[dict[str, Callable[[Schema], RowWriter]]] = {"coco": Coco().writer, "jsonl": Jsonl().writer}
TITLES: Final = {"coco": "Export as COCO", "jsonl": "Export as JSONL"}
CHUNK: Final = 1_000
"""Rows between two checkpoints: what a killed worker's successor writes again at most."""

Content: TypeAlias = Literal["settled", "answers"]


class NotOffered(ValueError):
    """This format cannot hold this content."""


def start(
    *, project: Project, format_name: str, actor: AbstractBaseUser, content: Content = "settled"
) -> Job:
    """A job that writes the project's labels in a format. Raises `NotOffered`."""
    if content == "answers" and format_name != "jsonl":
        raise NotOffered("people's answers are exported as jsonl")
    title = "Export everybody's answers" if content == "answers" else TITLES[format_name]
    return jobs.enqueue(
        kind="export",
        key=f"export:{project.pk}:{uuid4()}",
        project=project,
        params={"project": project.pk, "format": format_name, "content": content, "title": title},
        created_by=actor,
    )


def run(*, running: jobs.Running) -> dict[str, Any]:
    """Writes the file and puts it into the store; the job's result names it, and what the format left out.

    The file grows in the work directory. A worker that is killed is followed by one that goes on behind the
    last checkpoint; on another machine, which has no such directory, it begins again.
    """
    project = Project.objects.get(pk=running.params["project"])
    format_name = running.params["format"]
    content: Content = running.params.get("content", "settled")
    schema = projects.current_schema(project).schema
    writer: RowWriter = (
        JsonlWriter(schema, "answers") if content == "answers" else WRITERS[format_name](schema)
    )
    folder = settings.WORK_DIRECTORY / "exports" / str(running.job.pk)
    with _Sections(folder, writer, running, until=_newest(project)) as sections:
        if content == "answers":
            _write_answers(project, writer, sections)
        else:
            _write_settled(project, schema, writer, sections)
    running.report(0.97, "putting the file into the store")
    written, sha256 = sections.join()
    stored_as = f"exports/{running.job.pk}-{running.token}"
    storage.store().put_file(stored_as, written)
    size_bytes = written.stat().st_size
    shutil.rmtree(folder, ignore_errors=True)
    name = f"labelwheel-{project.pk}-{'answers' if content == 'answers' else format_name}"
    return {
        "object": stored_as,
        "sha256": sha256,
        "size_bytes": size_bytes,
        "name": f"{name}.{'jsonl' if format_name == 'jsonl' else 'json'}",
        "content_type": CONTENT_TYPES[format_name],
        "pictures": sections.done,
        "losses": [[what, count] for what, count in writer.losses.report().items],
    }


def _newest(project: Project) -> datetime:
    """When the last picture was settled: what has been until now, whatever clock said so."""
    newest: datetime | None = Task.objects.filter(project=project).aggregate(at=Max("settled_at"))["at"]
    return newest or project.created_at


def file_of(job: Job) -> storage.Chunks:
    """The bytes that a finished export wrote, verified. Raises `MissingBlob`; `CorruptBlob` on the way."""
    sha256 = job.result["sha256"]
    return storage.verified(
        storage.store().chunks(job.result.get("object") or storage.blob_name(sha256)), sha256
    )


class _Sections:
    """The file's sections while they grow, and where a checkpoint says that they were whole.

    Each claim writes into a folder of its own: a worker that hangs and wakes up late spoils nothing.
    """

    def __init__(self, folder: Path, writer: RowWriter, running: jobs.Running, *, until: datetime) -> None:
        self.folder = folder / str(running.token)
        self.writer = writer
        self.running = running
        self.last = 0
        self.done = 0
        self.until = until
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.paths = [self.folder / name for name in writer.sections]
        before = running.checkpoint
        if before and self._take_over(folder / str(before["token"]), before["sizes"]):
            self.last, self.done = before["last"], before["done"]
            self.until = datetime.fromisoformat(before["until"])
            for what, count in before["losses"]:
                writer.losses.add(what, count)
            writer.resume(self.paths)
        for old in folder.iterdir():
            if old != self.folder:
                shutil.rmtree(old, ignore_errors=True)
        self.files = [path.open("ab") for path in self.paths]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self.files:
            file.close()

    def _take_over(self, old: Path, sizes: Sequence[int]) -> bool:
        parts = [old / name for name in self.writer.sections]
        if any(
            not part.is_file() or part.stat().st_size < size for part, size in zip(parts, sizes, strict=True)
        ):
            return False
        for part, path, size in zip(parts, self.paths, sizes, strict=True):
            with part.open("rb") as source, path.open("wb") as target:
                _copy(source, target, size)
        return True

    def add(self, rows: Sequence[tuple[bytes, ...]]) -> None:
        for number, file in enumerate(self.files):
            file.write(b"".join(row[number] for row in rows))

    def keep(self, *, last: int, done: int, total: int, what: str) -> None:
        """All until here is on disk, and the job's row says so."""
        for file in self.files:
            file.flush()
            os.fsync(file.fileno())
        self.last, self.done = last, done
        checkpoint = {
            "token": self.running.token,
            "sizes": [file.tell() for file in self.files],
            "last": last,
            "done": done,
            "until": self.until.isoformat(),
            "losses": [[what, count] for what, count in self.writer.losses.report().items],
        }
        share = 0.95 * min(done / max(total, 1), 1.0)
        self.running.report(share, f"{done:,} of {max(total, done):,} {what}", checkpoint=checkpoint)

    def join(self) -> tuple[Path, str]:
        """The whole file and its sha256."""
        digest = hashlib.sha256()
        whole = self.folder / "whole"
        frame = self.writer.frame()
        with whole.open("wb") as target:

            def write(data: bytes) -> None:
                digest.update(data)
                target.write(data)

            for text, path in zip(frame, self.paths, strict=False):
                write(text)
                with path.open("rb") as source:
                    source.seek(self.writer.skipped)
                    while data := source.read(storage.CHUNK_BYTES):
                        write(data)
                path.unlink()
            write(frame[-1])
            target.flush()
            os.fsync(target.fileno())
        return whole, digest.hexdigest()


def _copy(source: Any, target: Any, size: int) -> None:
    while size > 0:
        data = source.read(min(size, storage.CHUNK_BYTES))
        target.write(data)
        size -= len(data)


def _write_settled(project: Project, schema: Schema, writer: RowWriter, sections: _Sections) -> None:
    counts = selectors.progress(project)
    total = counts[TaskState.SETTLED] + counts["gold"]
    last, done = sections.last, sections.done
    while chunk := settled(
        project=project, schema=schema, losses=writer.losses, until=sections.until, after=last
    ):
        sections.add([writer.add(row) for _, row in chunk])
        last, done = chunk[-1][0], done + len(chunk)
        sections.keep(last=last, done=done, total=total, what="pictures")


def settled(
    *, project: Project, schema: Schema, losses: LossLedger, until: datetime, after: int = 0
) -> list[tuple[int, PictureRow]]:
    """The next settled pictures by task, gold among them, without shapes whose class is gone; these are counted."""
    rows = (
        Task.objects.filter(project=project, state=TaskState.SETTLED, id__gt=after, settled_at__lte=until)
        .exclude(consensus=None)
        .order_by("id")
        .values_list(
            "id", "name", "image__width", "image__height", "image__sha256", "is_gold", "consensus__shapes"
        )
    )
    fitting = _fitting(schema)
    found = []
    for task_id, name, width, height, sha256, gold, shapes in rows[:CHUNK]:
        kept = [shape for shape in shapes if fitting(shape)]
        losses.add("shape of a class that was removed", len(shapes) - len(kept))
        found.append((task_id, PictureRow(name, width, height, kept, sha256, gold)))
    return found


def _fitting(schema: Schema) -> Callable[[Json], bool]:
    """Whether a stored shape fits the schema: what `Schema.problem_with` says, from the JSON."""
    expected = {
        item.id: (item.kind, None if item.skeleton is None else len(item.skeleton.joints))
        for item in schema.classes
    }

    def fits(shape: Json) -> bool:
        kind, joints = expected.get(shape["class_id"], ("", None))
        return shape["kind"] == kind and (joints is None or len(shape["points"]) == joints)

    return fits


def _write_answers(project: Project, writer: RowWriter, sections: _Sections) -> None:
    assert isinstance(writer, JsonlWriter)
    total = selectors.progress(project)["answers"]
    last, done = sections.last, sections.done
    answered = Task.objects.filter(project=project, answers__gt=0).order_by("id").values_list("id", flat=True)
    while task_ids := list(answered.filter(id__gt=last)[: CHUNK // 2]):
        rows = [writer.add_answer(row) for row in answers(task_ids)]
        sections.add(rows)
        last, done = task_ids[-1], done + len(rows)
        sections.keep(last=last, done=done, total=total, what="answers")


def answers(task_ids: Sequence[int]) -> Iterator[AnswerRow]:
    """The current answers to these tasks, task by task."""
    rows = Annotation.objects.filter(task_id__in=task_ids, is_current=True).order_by("task_id", "author_id")
    for name, sha256, width, height, author, revision, at, seconds, suggested, shapes in rows.values_list(
        "task__name",
        "task__image__sha256",
        "task__image__width",
        "task__image__height",
        "author__username",
        "revision",
        "created_at",
        "seconds_active",
        "suggestions_from",
        "shapes",
    ):
        yield AnswerRow(
            name=name,
            sha256=sha256,
            width=width,
            height=height,
            author=author,
            revision=revision,
            at=at.isoformat(),
            seconds_active=seconds,
            suggestions_from=suggested,
            shapes=shapes,
        )
