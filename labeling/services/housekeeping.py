"""What nobody needs any more goes away: forgotten uploads, old jobs and their files, half-written parts."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from django.conf import settings

from labeling import storage
from labeling.models import Job
from labeling.services import jobs, uploads

JOBS_KEPT: Final = timedelta(days=90)
CHUNK: Final = 500


def prune(*, running: jobs.Running, now: datetime) -> dict[str, Any]:
    """Clears away, in small steps; how many uploads, jobs and folders of this machine's work directory went."""
    running.report(0.1, "uploads that nobody imported")
    forgotten = uploads.prune(now=now)
    running.report(0.4, "jobs that ended long ago")
    ended = 0
    old = Job.objects.exclude(state__in=jobs.OPEN).filter(finished_at__lt=now - JOBS_KEPT).order_by("id")
    while chunk := list(old[:CHUNK]):
        for job in chunk:
            if "object" in job.result:
                storage.store().remove(job.result["object"])
        Job.objects.filter(pk__in=[job.pk for job in chunk]).delete()
        ended += len(chunk)
        running.check()
    running.report(0.8, "parts of work that nobody goes on with")
    return {"uploads": forgotten, "jobs": ended, "folders": _remove_parts()}


def _remove_parts() -> int:
    count = 0
    for kind in ("exports", "imports"):
        folder = Path(settings.WORK_DIRECTORY) / kind
        for parts in folder.iterdir() if folder.is_dir() else ():
            if (
                parts.name.isdecimal()
                and not Job.objects.filter(pk=int(parts.name), state__in=jobs.OPEN).exists()
            ):
                shutil.rmtree(parts, ignore_errors=True)
                count += 1
    return count
