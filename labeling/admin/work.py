"""Jobs, which can be tried again or stopped, and the record of what was done."""

from typing import Final

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from labeling.admin.base import (
    NOTHING,
    PROJECT_PROSE,
    ReadingAdmin,
    Refusal,
    badge,
    bar,
    each,
    moment,
    person_of,
    pretty,
)
from labeling.models import (
    Event,
    Job,
    JobState,
)
from labeling.services import jobs

JOB_TONES: Final = {
    JobState.QUEUED: "calm",
    JobState.RUNNING: "busy",
    JobState.DONE: "good",
    JobState.FAILED: "bad",
    JobState.CANCELLED: "calm",
    JobState.PARKED: "care",
}


@admin.register(Job)
class JobAdmin(ReadingAdmin):
    list_display = (
        "__str__", "project", "state_badge", "progress_bar", "told", "attempts", "crashes", "created", "finished",
    )  # fmt: skip
    list_filter = ("state", "kind", "queue", "project")
    list_select_related = ("project",)
    search_fields = ("key",)
    search_help_text = "an id, or a whole key"
    word_is = "key"
    ordering = ("-id",)
    heavy = (*PROJECT_PROSE, "checkpoint", "result", "params")
    actions = ("retry", "cancel")
    fieldsets = (
        (None, {"fields": ("kind", "key", "queue", "project", "created_by")}),
        ("State", {"fields": ("state_badge", "progress_bar", "message", "error_text", "cancel_requested")}),
        ("Counts", {"fields": ("attempts", "failures", "crashes")}),
        ("Times", {"fields": ("created_at", "started_at", "finished_at", "hinted_at", "lease_expires_at")}),
        ("Contents", {"fields": ("params_json", "checkpoint_json", "result_json")}),
    )
    readonly_fields = (
        "state_badge", "progress_bar", "error_text", "params_json", "checkpoint_json", "result_json",
    )  # fmt: skip

    @admin.display(description="state", ordering="state")
    def state_badge(self, job: Job) -> SafeString:
        return badge(job.state, JOB_TONES[JobState(job.state)])

    @admin.display(description="progress", ordering="progress")
    def progress_bar(self, job: Job) -> SafeString:
        return bar(job.progress)

    @admin.display(description="message")
    def told(self, job: Job) -> str:
        """What it says of itself, and what went wrong where it ended so."""
        told = job.error or job.message
        return told if len(told) <= 80 else f"{told[:80]}…"

    @admin.display(description="error")
    def error_text(self, job: Job) -> SafeString | str:
        if not job.error:
            return NOTHING
        return format_html('<pre class="text-xs" style="white-space: pre-wrap">{}</pre>', job.error)

    @admin.display(description="asked for")
    def params_json(self, job: Job) -> SafeString:
        return pretty(job.params)

    @admin.display(description="checkpoint")
    def checkpoint_json(self, job: Job) -> SafeString:
        return pretty(job.checkpoint)

    @admin.display(description="result")
    def result_json(self, job: Job) -> SafeString:
        return pretty(job.result)

    def has_steer_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "change")

    @admin.action(description="Retry: put back into the queue", permissions=["steer"])
    def retry(self, request: HttpRequest, selected: models.QuerySet[Job]) -> None:
        def again(job: Job) -> None:
            if not jobs.retry(job=job, actor=person_of(request)):
                raise Refusal("only a job that failed, was cancelled or is parked runs again")

        each(request, selected, again, done="in the queue again", refusals=(Refusal,))

    @admin.action(description="Cancel", permissions=["steer"])
    def cancel(self, request: HttpRequest, selected: models.QuerySet[Job]) -> None:
        def stop(job: Job) -> None:
            if job.state not in jobs.OPEN:
                raise Refusal("has ended already")
            jobs.cancel(job=job, actor=person_of(request))

        each(
            request,
            selected,
            stop,
            done="cancelled; one that runs stops at its next report",
            refusals=(Refusal,),
        )


@admin.register(Event)
class EventAdmin(ReadingAdmin):
    """Who did what, when. Append-only: not even a superuser changes it here."""

    list_display = ("time", "actor", "verb", "subject", "project", "told", "client")
    list_filter = ("project",)
    list_select_related = ("actor", "project")
    search_fields = ("verb",)
    search_help_text = "a verb like submit or promote, or an object's id"
    number_is = "object_id"
    word_is = "verb"
    ordering = ("-id",)
    heavy = PROJECT_PROSE
    fields = ("time", "actor", "client", "verb", "object_type", "object_id", "project", "as_json")
    readonly_fields = ("time", "as_json")

    @admin.display(description="at")
    def time(self, event: Event) -> str:
        return moment(event.at)

    @admin.display(description="object")
    def subject(self, event: Event) -> str:
        return f"{event.object_type} {event.object_id[:12]}"

    @admin.display(description="data")
    def told(self, event: Event) -> str:
        told = ", ".join(f"{name}: {value}" for name, value in event.data.items())
        return told if len(told) <= 80 else f"{told[:80]}…"

    @admin.display(description="data")
    def as_json(self, event: Event) -> SafeString:
        return pretty(event.data)
