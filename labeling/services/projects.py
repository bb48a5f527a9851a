"""Projects, their schema versions and their members."""

from functools import lru_cache
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.db import connection, models, transaction
from django.db.models import Count, Exists, F, OuterRef, Subquery
from django.db.models.functions import Coalesce, Greatest

from labeling import schema as label_schema
from labeling.models import Annotation, Lease, Membership, Project, Role, SchemaVersion, Task, TaskState
from labeling.services import events, overlap

CHUNK: Final = 500
OF_THE_OVERLAP: Final = frozenset(
    (
        "overlap",
        "answers_per_task",
        "most_answers",
        "target_risk",
        "trusted_from",
        "model_counts",
        "cards_per_dispute",
    )
)
"""Settings that may change how many answers a task wants."""
OPEN: Final = (TaskState.QUEUED, TaskState.IN_PROGRESS)


class StaleSchema(Exception):
    """Somebody saved a newer schema since this one was opened."""


class LastOwner(Exception):
    """A project keeps at least one owner."""


class NoSuchPerson(Exception):
    """No account has this name."""


class ClassInUse(Exception):
    """A class's kind, or how many joints it has, cannot change: its answers would lose their meaning."""


@transaction.atomic
def create(*, name: str, schema: label_schema.Schema, owner: AbstractBaseUser, **options: Any) -> Project:
    """A new project with its first schema version; `options` are fields of `Project`."""
    project = Project.objects.create(name=name, **overlap.with_defaults(options))
    SchemaVersion.objects.create(
        project=project, number=1, definition=label_schema.dump(schema), created_by_id=owner.pk
    )
    Membership.objects.create(project=project, user_id=owner.pk, role=Role.OWNER)
    events.record(project=project, actor=owner, verb="create", subject=project)
    return project


@transaction.atomic
def change(*, project: Project, changes: dict[str, Any], actor: AbstractBaseUser) -> Project:
    """Changes settings; with those of the overlap, open tasks take as many more people or as many fewer."""
    project = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    changes = overlap.with_defaults(changes, project)
    for name, value in changes.items():
        setattr(project, name, value)
    project.save(update_fields=list(changes))
    if changes:
        events.record(
            project=project, actor=actor, verb="change", subject=project, data={"fields": sorted(changes)}
        )
    if not OF_THE_OVERLAP.isdisjoint(changes):
        _give_slots(project)
    return project


def _give_slots(project: Project) -> None:
    """Opens each unfinished task to as many more people as the project now wants for it."""
    unfinished = Task.objects.filter(project=project, state__in=OPEN)
    # Locked before leases are counted, in a statement of its own: one that waits sees leases as they were before.
    locked = unfinished.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True)
    for _ in locked.iterator(chunk_size=CHUNK):
        pass
    wanted: Any = overlap.first(project) + F("extra_answers")
    if overlap.is_adaptive(project):
        wanted = Greatest(wanted, F("asked"))
    current = Annotation.objects.filter(
        task_id=OuterRef("task_id"), author_id=OuterRef("user_id"), is_current=True
    )
    holding = Lease.objects.filter(~Exists(current), task_id=OuterRef("pk")).order_by()
    held = Subquery(holding.values("task_id").annotate(people=Count("pk")).values("people"))
    free = Greatest(wanted - F("answers") - Coalesce(held, 0), 0)
    unfinished.annotate(free=free).exclude(slots=F("free")).update(slots=F("free"))
    if overlap.is_adaptive(project):
        look_again(tasks=unfinished)
    else:
        unfinished.filter(state=TaskState.IN_PROGRESS, answers__gte=wanted).update(consensus_stale=True)


def look_again(*, tasks: models.QuerySet[Task]) -> None:
    """Has the sweeper see whether what these open tasks have is enough by now."""
    tasks.filter(state=TaskState.IN_PROGRESS, answers__gt=0).update(consensus_stale=True)


def current_schema(project: Project) -> SchemaVersion:
    """The version in force. The object is shared between calls: a version never changes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, created_at FROM labeling_schemaversion WHERE project_id = %s ORDER BY number DESC LIMIT 1",
            [project.pk],
        )
        row = cursor.fetchone()
    if row is None:
        raise SchemaVersion.DoesNotExist(f"project {project.pk} has no schema")
    return _schema_version(*row)


@lru_cache(maxsize=256)
def _schema_version(pk: int, created_at: object) -> SchemaVersion:
    return SchemaVersion.objects.get(pk=pk)


@transaction.atomic
def save_schema(
    *, project: Project, schema: label_schema.Schema, base_version: int, actor: AbstractBaseUser
) -> SchemaVersion:
    """The next schema version. Raises `StaleSchema` unless `base_version` is in force; `ClassInUse`."""
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    current = current_schema(project)
    if current.number != base_version:
        raise StaleSchema(
            f"version {current.number} is in force, these changes are to version {base_version}"
        )
    if current.schema == schema:
        return current
    for version in project.schema_versions.all():
        for old in version.schema.classes:
            new = schema.by_id(old.id)
            if new is not None and new.kind != old.kind:
                raise ClassInUse(
                    f"class {old.id} was for {old.kind}; give a {new.kind} class an id of its own"
                )
            if new is not None and _joints(new) != _joints(old):
                raise ClassInUse(
                    f"class {old.id} has {_joints(old)} joints in the answers so far; "
                    f"give a class of {_joints(new)} joints an id of its own"
                )
    saved = SchemaVersion.objects.create(
        project=project,
        number=current.number + 1,
        definition=label_schema.dump(schema),
        created_by_id=actor.pk,
    )
    events.record(
        project=project, actor=actor, verb="save_schema", subject=saved, data={"number": saved.number}
    )
    return saved


@transaction.atomic
def set_member(*, project: Project, username: str, role: Role, actor: AbstractBaseUser) -> Membership:
    """Makes somebody a member, or changes their role. Raises `NoSuchPerson`, `LastOwner`."""
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    person = get_user_model().objects.filter(username=username, is_active=True).first()
    if person is None:
        raise NoSuchPerson(f"there is no account named {username}")
    if role != Role.OWNER:
        _keep_an_owner(project, person.pk)
    member, is_new = Membership.objects.update_or_create(
        project=project, user_id=person.pk, defaults={"role": role}
    )
    if not is_new:
        _wait_for_others(project)
    events.record(
        project=project,
        actor=actor,
        verb="set_member",
        subject=member,
        data={"user": person.pk, "role": role},
    )
    return member


@transaction.atomic
def remove_member(*, member: Membership, actor: AbstractBaseUser) -> None:
    """Ends a membership; the person's answers stay. Raises `LastOwner`."""
    project = Project.objects.select_for_update(no_key=True).get(pk=member.project_id)
    _keep_an_owner(project, member.user_id)
    events.record(
        project=project, actor=actor, verb="remove_member", subject=member, data={"user": member.user_id}
    )
    member.delete()
    _wait_for_others(project)


def role_of(*, project: Project, user: AbstractBaseUser) -> Role | None:
    member = Membership.objects.filter(project=project, user_id=user.pk).first()
    return None if member is None else Role(member.role)


def wait_for_own_tabs(*, project_id: int, user_id: int) -> None:
    """Lets one person's requests for work come one after another, each to the end of its transaction.

    On SQLite, which has one writer, they do anyway.
    """
    if connection.features.has_select_for_update:
        member = Membership.objects.select_for_update(no_key=True)
        member.filter(project_id=project_id, user_id=user_id).values_list("pk").first()


def _wait_for_others(project: Project) -> None:
    """Where tasks ask on by their risk, none waits for whom the project has no more."""
    if overlap.is_adaptive(project):
        look_again(tasks=Task.objects.filter(project=project))


def _joints(item: label_schema.LabelClass) -> int:
    return 0 if item.skeleton is None else len(item.skeleton.joints)


def _keep_an_owner(project: Project, leaving_user_id: int) -> None:
    owners = Membership.objects.filter(project=project, role=Role.OWNER)
    if owners.filter(user_id=leaving_user_id).exists() and owners.count() == 1:
        raise LastOwner("a project needs an owner: make somebody else one first")
