"""Tasks with their pictures, and who holds which."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from labeling import schema as label_schema
from labeling import storage
from labeling.admin.base import (
    PROJECT_PROSE,
    ReadingAdmin,
    badge,
    each,
    figure,
    list_link,
    mark,
    moment,
    person_of,
)
from labeling.models import (
    SHA256_LENGTH,
    Annotation,
    Consensus,
    Lease,
    Prediction,
    Task,
    TaskState,
)
from labeling.services import pictures, projects, queue
from labeling.shapes import Box, Keypoints, Shape, Tag

TASK_TONES: Final = {
    TaskState.QUEUED: "calm",
    TaskState.IN_PROGRESS: "busy",
    TaskState.NEEDS_REVIEW: "care",
    TaskState.DISPUTED: "care",
    TaskState.SETTLED: "good",
    TaskState.REJECTED: "bad",
}
THUMBNAIL: Final = "512"
LARGE: Final = "2048"


def picture_url(task_id: int, tier: str) -> str:
    return reverse("admin:labeling_task_picture", args=[task_id, tier])


def drawing(task: Task, shapes: Sequence[Shape]) -> SafeString:
    """A task's picture with shapes on it, in the colours of the project's classes; how many of each stands below."""
    classes = {item.id: item for item in projects.current_schema(task.project).schema.classes}
    drawn = format_html_join(
        "", "{}", ((_drawn(shape, classes),) for shape in shapes if not isinstance(shape, Tag))
    )
    counted = Counter(_name(shape, classes) for shape in shapes)
    told = ", ".join(f"{count} × {name}" for name, count in counted.items()) or "no shapes"
    image = task.image
    return format_html(
        '<figure><svg viewBox="0 0 {} {}" role="img" aria-label="{}" style="max-width: 40rem; width: 100%; '
        'max-height: 32rem"><image href="{}" width="{}" height="{}" preserveAspectRatio="none"/>{}</svg>'
        "<figcaption>{}</figcaption></figure>",
        image.width, image.height, told, picture_url(task.pk, LARGE), image.width, image.height, drawn, told,
    )  # fmt: skip


def _name(shape: Shape, classes: Mapping[int, label_schema.LabelClass]) -> str:
    return classes[shape.class_id].name if shape.class_id in classes else f"class {shape.class_id}"


def _drawn(shape: Box | Keypoints, classes: Mapping[int, label_schema.LabelClass]) -> SafeString:
    known = classes.get(shape.class_id)
    color = "#888888" if known is None else known.color
    told = f"{_name(shape, classes)} {shape.id}, {shape.provenance.replace('_', ' ')}"
    if shape.score is not None:
        told += f", score {shape.score:.2f}"
    parts = [format_html("<title>{}</title>", told)]
    if shape.xyxy is not None:
        x1, y1, x2, y2 = shape.xyxy
        rect = (
            '<rect x="{}" y="{}" width="{}" height="{}" fill="{}" fill-opacity="0.12" stroke="{}" '
            'stroke-width="2" vector-effect="non-scaling-stroke"/>'
        )
        parts.append(format_html(rect, x1, y1, x2 - x1, y2 - y1, color, color))
    if isinstance(shape, Keypoints):
        # A line of no length with round ends is a dot of the same size at every scale.
        dot = (
            '<path d="M{} {}h0" stroke="{}" stroke-width="{}" stroke-linecap="round" '
            'vector-effect="non-scaling-stroke"/>'
        )
        parts += [format_html(dot, x, y, color, 8 if seen == 2 else 4) for x, y, seen in shape.points if seen]
    return format_html("<g>{}</g>", format_html_join("", "{}", ((part,) for part in parts)))


@admin.register(Task)
class TaskAdmin(ReadingAdmin):
    list_display = (
        "thumbnail", "name", "project", "state_badge", "reason", "gold", "priority_figure", "answers", "slots",
        "risk_figure", "settled",
    )  # fmt: skip
    list_display_links = ("thumbnail", "name")
    list_filter = ("state", "reason", "is_gold", "blind", "consensus_stale", "project")
    list_select_related = ("project",)
    search_fields = ("name",)
    search_help_text = "an id, a picture's sha256, or the beginning of a name"
    word_is = "name__startswith"
    ordering = ("-id",)
    heavy = PROJECT_PROSE
    fieldsets = (
        (None, {"fields": ("picture", "project", "name", "group", "picture_facts", "see_also")}),
        (
            "Queue",
            {
                "fields": (
                    "state_badge",
                    "reason",
                    "priority_figure",
                    "random_probability",
                    "slots",
                    "answers",
                    "extra_answers",
                    "asked",
                )
            },
        ),
        ("Review", {"fields": ("review_cause", "reviewer", "review_expires_at")}),
        ("Settled", {"fields": ("consensus", "stale", "risk_figure", "settled_at", "gold", "is_blind")}),
    )
    readonly_fields = (
        "picture", "picture_facts", "state_badge", "priority_figure", "stale", "risk_figure", "gold", "is_blind",
        "see_also",
    )  # fmt: skip

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.picture_view, cacheable=True)
        own = path("<int:task_id>/picture/<str:tier>/", view, name="labeling_task_picture")
        return [own, *super().get_urls()]

    def picture_view(self, request: HttpRequest, task_id: int, tier: str) -> HttpResponse:
        """A task's picture as JPEG; the API's is for members of the project, this one for those who see tasks here."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if tier not in pictures.TIERS:
            raise Http404
        task = get_object_or_404(Task.objects.select_related("image"), pk=task_id)
        try:
            data = pictures.tier_bytes(task.image, tier)
        except storage.MissingBlob as error:
            raise Http404 from error
        except storage.StoreUnavailable:
            return HttpResponse(status=503)
        response = HttpResponse(data, content_type="image/jpeg")
        response["Cache-Control"] = "private, max-age=86400, immutable"
        return response

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Task], search_term: str
    ) -> tuple[models.QuerySet[Task], bool]:
        term = search_term.strip().lower()
        if len(term) == SHA256_LENGTH and all(character in "0123456789abcdef" for character in term):
            return queryset.filter(image__sha256=term), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description="picture")
    def thumbnail(self, task: Task) -> SafeString:
        return format_html(
            '<img loading="lazy" src="{}" alt="{}" style="width: 4rem; height: 3rem; object-fit: contain" '
            'class="rounded-default bg-base-100 dark:bg-base-800">',
            picture_url(task.pk, THUMBNAIL),
            task.name,
        )

    @admin.display(description="state", ordering="state")
    def state_badge(self, task: Task) -> SafeString:
        return badge(task.state, TASK_TONES[TaskState(task.state)])

    @admin.display(description="gold", ordering="is_gold")
    def gold(self, task: Task) -> SafeString | str:
        return mark(task.is_gold, "gold", "care")

    @admin.display(description="without suggestions")
    def is_blind(self, task: Task) -> SafeString | str:
        return mark(task.blind, "blind")

    @admin.display(description="waits to be settled again")
    def stale(self, task: Task) -> SafeString | str:
        return mark(task.consensus_stale, "stale", "care")

    @admin.display(description="settled", ordering="settled_at")
    def settled(self, task: Task) -> str:
        return moment(task.settled_at)

    @admin.display(description="priority", ordering="priority")
    def priority_figure(self, task: Task) -> str:
        return figure(task.priority)

    @admin.display(description="risk", ordering="risk")
    def risk_figure(self, task: Task) -> str:
        return figure(task.risk)

    @admin.display(description="picture")
    def picture(self, task: Task) -> SafeString:
        """The picture with the settled answer, if there is one."""
        return drawing(task, task.consensus.parsed if task.consensus else ())

    @admin.display(description="file")
    def picture_facts(self, task: Task) -> str:
        image = task.image
        size = f"{image.width} × {image.height} pixels, {image.size_bytes:,} bytes"
        return f"{image.format}, {size}, sha256 {image.sha256}"

    @admin.display(description="see also")
    def see_also(self, task: Task) -> SafeString:
        kinds = (
            (Annotation, "annotations"), (Consensus, "consensus revisions"), (Prediction, "predictions"),
            (Lease, "leases"),
        )  # fmt: skip
        links = [list_link(model, text, task__id__exact=task.pk) for model, text in kinds]
        return format_html_join(" · ", "{}", ((link,) for link in links))


@admin.register(Lease)
class LeaseAdmin(ReadingAdmin):
    """Who holds what now."""

    list_display = ("task", "project", "user", "created", "expires")
    list_filter = ("task__project",)
    list_select_related = ("task__project", "user")
    search_fields = ("user__username",)
    search_help_text = "a username, or a task's id"
    number_is = "task_id"
    word_is = "user__username"
    ordering = ("expires_at",)
    heavy = ("task__project__guide",)
    actions = ("release",)

    @admin.display(description="project")
    def project(self, lease: Lease) -> str:
        return lease.task.project.name

    @admin.display(description="expires", ordering="expires_at")
    def expires(self, lease: Lease) -> str:
        return moment(lease.expires_at)

    def has_release_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "change")

    @admin.action(description="Release: give the tasks back to the queue", permissions=["release"])
    def release(self, request: HttpRequest, leases: models.QuerySet[Lease]) -> None:
        each(
            request,
            leases.select_related("task__project", "user"),
            lambda lease: queue.release_by_manager(lease=lease, actor=person_of(request)),
            done="back in the queue",
        )
