"""Projects with their members, and the versions of what they label."""

from typing import Any, Final, cast

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.forms import (
    PaginationInlineFormSet,
)

from labeling.admin.base import (
    NOTHING,
    PROJECT_PROSE,
    ReadingAdmin,
    list_link,
    person_of,
    pretty,
    table,
)
from labeling.models import (
    ConsensusFit,
    Event,
    Job,
    Membership,
    Project,
    Role,
    SchemaVersion,
    Skill,
    Task,
)
from labeling.services import projects

BOUNDS: Final = {
    "answers_per_task": (1, 50),
    "most_answers": (2, 50),
    "target_risk": (0, 1_000),
    "trusted_from": (0, 1),
    "blind_share": (0, 1),
    "review_share": (0, 1),
    "lease_seconds": (10, 86_400),
}


class ProjectForm(ModelForm):  # type: ignore[type-arg]  # is generic in the stubs alone
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, (least, most) in BOUNDS.items():
            if name in self.fields:
                self.fields[name].validators += [MinValueValidator(least), MaxValueValidator(most)]

    def clean_round_settings(self) -> dict[str, Any]:
        value = self.cleaned_data["round_settings"] or {}
        if not isinstance(value, dict):
            raise ValidationError('must be an object, like {"target_new_labels": 200}')
        return value


class MembershipFormSet(PaginationInlineFormSet):  # type: ignore[misc]  # unfold has no types
    """The members of a project: one owner at least, active people only, and nobody gives a role to themselves."""

    actor: User

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        if form.instance.pk and "user" in form.fields:
            form.fields["user"].disabled = True

    def clean(self) -> None:
        super().clean()
        if any(self.errors):
            return
        owners = 0
        for form in self.forms:
            if not form.cleaned_data:
                continue
            person, role = form.cleaned_data["user"], form.cleaned_data["role"]
            removed = form.cleaned_data.get("DELETE", False)
            owners += role == Role.OWNER and not removed
            if not (form.has_changed() or removed):
                continue
            if person == self.actor and not self.actor.is_superuser:
                raise ValidationError("Nobody changes their own role; ask an owner or a superuser.")
            if not person.is_active and not removed:
                raise ValidationError(f"{person} is not active, and so cannot get a role.")
        if not owners:
            raise ValidationError("A project needs an owner: make somebody else one first.")


class MembershipInline(TabularInline):  # type: ignore[misc]  # unfold has no types
    model = Membership
    formset = MembershipFormSet
    autocomplete_fields = ("user",)
    fields = ("user", "role", "created_at")
    readonly_fields = ("created_at",)
    extra = 0
    hide_title = True
    tab = True

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Membership]:
        rows = super().get_queryset(request).select_related("user", "project").order_by("id")
        return cast(models.QuerySet[Membership], rows)

    def get_formset(self, request: HttpRequest, obj: Project | None = None, **kwargs: Any) -> Any:
        formset = super().get_formset(request, obj, **kwargs)  # a class made for this request
        formset.actor = person_of(request)
        return formset


class SchemaVersionInline(TabularInline):  # type: ignore[misc]  # unfold has no types
    model = SchemaVersion
    fields = ("number", "class_names", "created_by", "created_at")
    readonly_fields = fields
    ordering = ("-number",)
    show_change_link = True
    hide_title = True
    tab = True

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[SchemaVersion]:
        rows = super().get_queryset(request).select_related("created_by", "project")
        return cast(models.QuerySet[SchemaVersion], rows)

    @admin.display(description="classes")
    def class_names(self, version: SchemaVersion) -> str:
        return ", ".join(item.name for item in version.schema.classes)

    def has_add_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


@admin.register(Project)
class ProjectAdmin(ReadingAdmin):
    """Projects are made in the app, where one says what is to be labelled; their settings and members change here."""

    form = ProjectForm
    inlines = (MembershipInline, SchemaVersionInline)
    list_display = ("name", "overlap", "answers_per_task", "consensus_method", "suggestions_from", "created")
    search_fields = ("name",)
    search_help_text = "the beginning of the name, or an id"
    word_is = "name__istartswith"
    ordering = ("-id",)
    heavy = ("guide",)
    readonly_fields = (
        "consensus_method", "consensus_fit", "suggestions_from", "suggestion_threshold", "created_at", "see_also",
    )  # fmt: skip
    fieldsets = (
        (None, {"fields": ("name", "guide", "see_also")}),
        ("Answers", {"fields": ("overlap", "answers_per_task", "lease_seconds")}),
        (
            "Adaptive overlap",
            {"fields": ("most_answers", "target_risk", "trusted_from", "model_counts", "review_share")},
        ),
        ("Consensus", {"fields": ("consensus_method", "consensus_fit")}),
        ("Suggestions", {"fields": ("blind_share", "suggestions_from", "suggestion_threshold")}),
        ("Rounds", {"fields": ("round_settings",)}),
    )

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return self.may(request, "change")

    @admin.display(description="see also")
    def see_also(self, project: Project) -> SafeString:
        kinds = (
            (Task, "tasks"),
            (ConsensusFit, "fits"),
            (Skill, "skills"),
            (Job, "jobs"),
            (Event, "events"),
        )
        links = [list_link(model, text, project__id__exact=project.pk) for model, text in kinds]
        return format_html_join(" · ", "{}", ((link,) for link in links))

    def save_model(self, request: HttpRequest, obj: Project, form: ProjectForm, change: bool) -> None:
        changes = {name: form.cleaned_data[name] for name in form.changed_data}
        if changes:
            projects.change(project=obj, changes=changes, actor=person_of(request))

    def save_formset(self, request: HttpRequest, form: ProjectForm, formset: Any, change: bool) -> None:
        """Members come and go through the services; new owners first, so that an owner can hand over."""
        formset.save(commit=False)
        granted = [*formset.new_objects, *(member for member, _ in formset.changed_objects)]
        try:
            for member in sorted(granted, key=lambda member: member.role != Role.OWNER):
                projects.set_member(
                    project=member.project,
                    username=member.user.username,
                    role=Role(member.role),
                    actor=person_of(request),
                )
            for member in formset.deleted_objects:
                projects.remove_member(member=member, actor=person_of(request))
        except (projects.LastOwner, projects.NoSuchPerson) as error:  # somebody else changed them meanwhile
            messages.error(request, f"The members are not all changed: {error}.")


@admin.register(SchemaVersion)
class SchemaVersionAdmin(ReadingAdmin):
    list_display = ("__str__", "class_names", "created_by", "created")
    list_select_related = ("project", "created_by")
    list_filter = ("project",)
    ordering = ("-id",)
    heavy = PROJECT_PROSE
    fields = ("project", "number", "created_by", "created_at", "class_table", "as_json")
    readonly_fields = ("class_table", "as_json")

    @admin.display(description="classes")
    def class_names(self, version: SchemaVersion) -> str:
        return ", ".join(item.name for item in version.schema.classes)

    @admin.display(description="classes")
    def class_table(self, version: SchemaVersion) -> SafeString:
        dot = '<span style="display:inline-block; width:0.8em; height:0.8em; border-radius:50%; background:{}"></span>'
        rows = (
            (
                item.id,
                format_html(dot + " {}", item.color, item.name),
                item.kind,
                item.key or NOTHING,
                ", ".join(item.skeleton.joints) if item.skeleton else NOTHING,
            )
            for item in version.schema.classes
        )
        return table(("id", "name", "kind", "key", "joints"), rows)

    @admin.display(description="definition")
    def as_json(self, version: SchemaVersion) -> SafeString:
        return pretty(version.definition)
