"""Files on their way into a project: kept in the store, many requests long, until an import takes them.

Their objects are named by the upload, so that an upload can go without a look at who else has such bytes.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from django.contrib.auth.models import AbstractBaseUser
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.core.files.uploadedfile import UploadedFile as SentFile
from django.db import transaction
from django.db.models import Count, Q, Sum

from labeling import storage
from labeling.formats import Problem
from labeling.formats.base import relative_path
from labeling.models import Job, JobState, Project, Upload, UploadedFile
from labeling.services import jobs

MAX_PATH: Final = 1_000
KEPT_FOR: Final = timedelta(days=7)


class ImportBegan(Exception):
    """This upload's import has begun: its files stay as they are."""


class StillImporting(Exception):
    """This upload's import runs: cancel it first."""


@dataclass
class Taken:
    """What became of a request's files: how many are kept, and why the others are not."""

    files: int = 0
    size_bytes: int = 0
    problems: list[Problem] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    """Paths under which other bytes lie already."""


def begin(*, project: Project, actor: AbstractBaseUser) -> Upload:
    return Upload.objects.create(project=project, created_by_id=actor.pk)


def add(*, upload: Upload, files: Iterable[tuple[str, SentFile]]) -> Taken:
    """Keeps files, each with its path; one that is there already with these bytes is fine. Raises `ImportBegan`.

    A path that leads out of its folder is cut to what stays in.
    """
    if upload.job_id is not None:
        raise ImportBegan("this upload is being imported, or was; begin another one for more files")
    taken = Taken()
    sent: dict[str, tuple[str, int]] = {}
    blobs = storage.store()
    for asked, file in files:
        path = relative_path(asked).as_posix()
        if path == "." or not _is_storable(asked) or len(path) > MAX_PATH:
            shown = asked.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
            taken.problems.append(Problem(shown[:MAX_PATH], None, "", "is no usable file name"))
            continue
        sha256 = _sha256_of(file)
        if path in sent and sent[path][0] != sha256:
            taken.conflicts.append(path)
            continue
        _put(blobs, object_name(upload, sha256), file)
        sent[path] = sha256, file.size or 0
    _keep_rows(upload, sent, taken)
    return taken


@transaction.atomic
def _keep_rows(upload: Upload, sent: dict[str, tuple[str, int]], taken: Taken) -> None:
    if Upload.objects.select_for_update(no_key=True).get(pk=upload.pk).job_id is not None:
        raise ImportBegan("this upload is being imported, or was; begin another one for more files")
    there = dict(
        UploadedFile.objects.filter(upload=upload, path__in=list(sent)).values_list("path", "sha256")
    )
    rows = []
    for path, (sha256, size_bytes) in sent.items():
        if path in there and there[path] != sha256:
            taken.conflicts.append(path)
            continue
        taken.files += 1
        taken.size_bytes += size_bytes
        if path not in there:
            rows.append(UploadedFile(upload=upload, path=path, sha256=sha256, size_bytes=size_bytes))
    UploadedFile.objects.bulk_create(rows)


@transaction.atomic
def start_import(*, upload: Upload, actor: AbstractBaseUser, params: dict[str, Any]) -> Job:
    """The job that imports the upload: the one that runs, or a new one. Raises `StillImporting`.

    Who asks again in the same way gets the same job; after one that ended, the same files are imported anew.
    """
    upload = Upload.objects.select_for_update(of=("self",)).select_related("job", "project").get(pk=upload.pk)
    wanted = {**params, "project": upload.project_id, "upload": str(upload.pk)}
    number = 1
    if upload.job is not None:
        if upload.job.state in jobs.OPEN:
            if upload.job.params != wanted:
                raise StillImporting("this upload is being imported in another way; cancel that first")
            return upload.job
        number = int(upload.job.key.rpartition(":")[2]) + 1
    job = jobs.enqueue(
        kind="import",
        key=f"import:{upload.pk}:{number}",
        project=upload.project,
        params=wanted,
        created_by=actor,
    )
    Upload.objects.filter(pk=upload.pk).update(job=job)
    return job


def unfinished(*, project: Project, user: AbstractBaseUser) -> list[Upload]:
    """A person's uploads that are not imported, the newest first: what their page goes on with after a reload."""
    mine = Upload.objects.filter(project=project, created_by_id=user.pk).select_related("job", "project")
    waiting = Q(job=None) | ~Q(job__state=JobState.DONE)
    return list(mine.filter(waiting).order_by("-created_at")[:20])


def totals(upload: Upload) -> tuple[int, int]:
    """How many files there are, and their bytes."""
    sums = UploadedFile.objects.filter(upload=upload).aggregate(files=Count("id"), size=Sum("size_bytes"))
    return sums["files"], sums["size"] or 0


def remove(*, upload: Upload) -> None:
    """Forgets an upload and its bytes; what was imported of it stays. Raises `StillImporting`."""
    with transaction.atomic():
        held = Upload.objects.select_for_update(of=("self",)).select_related("job").get(pk=upload.pk)
        if held.job is not None and held.job.state in jobs.OPEN:
            raise StillImporting("this upload is being imported; cancel that first")
        held.delete()
    clear_bytes(upload)


def clear(*, upload: Upload) -> None:
    """Forgets an upload's files after their import, which stays known."""
    UploadedFile.objects.filter(upload=upload).delete()
    clear_bytes(upload)


def clear_bytes(upload: Upload) -> None:
    blobs = storage.store()
    for name in list(blobs.names(f"uploads/{upload.pk}/")):
        blobs.remove(name)


def prune(*, now: datetime) -> int:
    """Removes uploads that nobody has imported for a week, and those whose import ended so long ago; how many."""
    count = 0
    old = Upload.objects.filter(created_at__lt=now - KEPT_FOR).exclude(job__state__in=jobs.OPEN)
    for upload in old.exclude(job__finished_at__gte=now - KEPT_FOR).order_by("created_at")[:1000]:
        remove(upload=upload)
        count += 1
    return count


def object_name(upload: Upload, sha256: str) -> str:
    return f"uploads/{upload.pk}/{sha256[:2]}/{sha256}"


def read(upload: Upload, sha256: str) -> bytes:
    """A file's bytes, verified."""
    return storage.get_verified(storage.store(), object_name(upload, sha256), sha256)


def fetch(upload: Upload, file: UploadedFile, to: Path) -> None:
    """Writes a file below a folder of this machine, without holding it in memory."""
    to.parent.mkdir(parents=True, exist_ok=True)
    chunks = storage.store().chunks(object_name(upload, file.sha256))
    with to.open("wb") as out:
        for chunk in storage.verified(chunks, file.sha256):
            out.write(chunk)


def _sha256_of(file: SentFile) -> str:
    digest = hashlib.sha256()
    for chunk in file.chunks():
        digest.update(chunk)
    return digest.hexdigest()


def _put(blobs: storage.BlobStore, name: str, file: SentFile) -> None:
    if isinstance(file, TemporaryUploadedFile):
        blobs.put_file(name, Path(file.temporary_file_path()))
    else:  # small enough that Django kept it in memory
        file.seek(0)
        blobs.put(name, file.read())


def _is_storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
