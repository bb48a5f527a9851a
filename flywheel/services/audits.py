"""Label audits: asking for one, keeping what it found, and a person's word that a label is right."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet
from django.utils import timezone

from flywheel.models import Dismissal, DoubtfulPicture, LabelAudit, Round, Snapshot
from flywheel.services import training
from labeling.models import Project, Task
from labeling.services import events, jobs
from ml.findings import Doubtful

FOLDS: Final = 2
PASSES: Final = 12
"""How often a fold's model sees each picture. A third of a training's: it only has to doubt."""
FEWEST_STEPS: Final = 160
MOST_STEPS: Final = 20_000
BATCH: Final = 8
LONGEST_LIST: Final = 1_000
MOST_FINDINGS: Final = 100
CHUNK: Final = 500


class BadAuditSetting(Exception):
    """`round_settings.audit` is neither true nor false."""


def ask(*, project: Project, actor: AbstractBaseUser | None) -> LabelAudit:
    """An audit of what is settled now; the one that runs already, if one does. One that failed starts anew.

    Raises `training.BadTrainingSettings`.
    """
    config_of(project, images=0)  # what cannot be set is said now
    with transaction.atomic():
        audit, new = LabelAudit.objects.select_for_update(no_key=True).get_or_create(
            project=project,
            finished_at=None,
            defaults={"created_by_id": None if actor is None else actor.pk},
        )
        job = audit.job
        if job is None:
            audit.job = jobs.enqueue(
                kind="audit",
                key=f"audit:{audit.pk}",
                queue="gpu",
                project=project,
                params={"audit": audit.pk},
                created_by=actor,
            )
            audit.save(update_fields=["job"])
        elif jobs.retry(job=job):
            new = True
            LabelAudit.objects.filter(pk=audit.pk).update(snapshot=None, created_at=timezone.now())
        if new and actor is not None:
            events.record(project=project, actor=actor, verb="audit_labels", subject=audit)
    audit.refresh_from_db()
    return audit


def cancel(*, project: Project, actor: AbstractBaseUser) -> None:
    """Stops the running audit, if one runs."""
    audit = LabelAudit.objects.filter(project=project, finished_at=None).select_related("job").first()
    if audit is not None and audit.job is not None:
        jobs.cancel(job=audit.job, actor=actor)


def after_round(*, turn: Round) -> LabelAudit | None:
    """Asks for an audit when a round has ended, where `round_settings.audit` says so. Raises `BadAuditSetting`."""
    if not is_wanted_after_rounds(turn.project):
        return None
    return ask(project=turn.project, actor=None)


def is_wanted_after_rounds(project: Project) -> bool:
    """`round_settings.audit`, false by default. Raises `BadAuditSetting`."""
    wanted: object = project.round_settings.get("audit", False)
    if not isinstance(wanted, bool):
        raise BadAuditSetting("round_settings.audit must be true or false")
    return wanted


def config_of(project: Project, *, images: int) -> dict[str, Any]:
    """The training configuration of a fold's model on this many pictures: the project's own, but fewer steps.

    It starts from nothing: the champion has learnt from the labels that are in doubt.
    """
    config = training.config_of(project, images=images)
    steps = max(FEWEST_STEPS, min(PASSES * images // BATCH, MOST_STEPS))
    return {name: value for name, value in config.items() if name != "warm_start"} | {
        "steps": min(config["steps"], steps)
    }


def begin(*, audit: LabelAudit, snapshot: Snapshot) -> None:
    """The labels that this audit is about. Call it while the job is held."""
    LabelAudit.objects.filter(pk=audit.pk).update(snapshot=snapshot)
    audit.snapshot = snapshot


def keep(
    *, audit: LabelAudit, doubtful: Sequence[Doubtful], revisions: Mapping[str, int], pictures: int
) -> int:
    """The review list in place of the one before; how many pictures it holds. Call it while the job is held.

    `revisions` maps a picture's sha256 to the revision of its labels, as the snapshot says.
    """
    task_of: dict[str, int] = {}
    kept = doubtful[:LONGEST_LIST]
    for start in range(0, len(kept), CHUNK):
        names = [item.sha256 for item in kept[start : start + CHUNK]]
        rows = Task.objects.filter(project=audit.project, image__sha256__in=names)
        task_of |= dict(rows.values_list("image__sha256", "pk"))
    DoubtfulPicture.objects.filter(audit__project=audit.project).delete()
    DoubtfulPicture.objects.bulk_create(
        [
            DoubtfulPicture(
                audit=audit,
                task_id=task_of[item.sha256],
                revision=revisions[item.sha256],
                score=item.score,
                findings=[asdict(finding) for finding in item.findings[:MOST_FINDINGS]],
            )
            for item in kept
            if item.sha256 in task_of
        ],
        batch_size=CHUNK,
    )
    LabelAudit.objects.filter(pk=audit.pk).update(
        pictures=pictures, doubtful=len(doubtful), finished_at=timezone.now()
    )
    return len(kept)


def latest(project: Project) -> LabelAudit | None:
    """The newest audit, finished or not."""
    audits = LabelAudit.objects.filter(project=project).select_related("snapshot", "job", "created_by")
    return audits.order_by("-id").first()


def finished(project: Project) -> LabelAudit | None:
    """The audit that the review list is from."""
    return LabelAudit.objects.filter(project=project).exclude(finished_at=None).order_by("-id").first()


def review_list(project: Project) -> QuerySet[DoubtfulPicture]:
    """What still is in doubt, the worst first: neither dismissed nor labelled anew since."""
    dismissed = Dismissal.objects.filter(task=OuterRef("task"), revision=OuterRef("revision"))
    return (
        DoubtfulPicture.objects.filter(audit__project=project, task__consensus__revision=F("revision"))
        .exclude(Exists(dismissed))
        .select_related("task__image")
        .order_by("id")
    )


@transaction.atomic
def dismiss(*, picture: DoubtfulPicture, actor: AbstractBaseUser) -> None:
    """Says that these labels are right; the same twice is no error."""
    _, new = Dismissal.objects.get_or_create(
        task_id=picture.task_id, revision=picture.revision, defaults={"dismissed_by_id": actor.pk}
    )
    if new:
        events.record(
            project=picture.audit.project,
            actor=actor,
            verb="dismiss_doubt",
            subject=picture.task,
            data={"revision": picture.revision},
        )
