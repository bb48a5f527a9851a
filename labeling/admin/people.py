"""People, their rights and their programs' tokens."""

from typing import Any, Final

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.forms import (
    AdminPasswordChangeForm,
    UserChangeForm,
    UserCreationForm,
)

from labeling.admin.base import (
    NOTHING,
    ReadingAdmin,
    badge,
    is_superuser,
    person_of,
    row_link,
)
from labeling.models import (
    ApiToken,
    Membership,
)
from labeling.services import events

RIGHTS: Final = ("is_staff", "is_superuser", "groups", "user_permissions")

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class PersonAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]  # unfold has no types
    """Accounts. Only superusers give rights, or touch those who have any; nobody is deleted, only made inactive.

    A person's answers, events and leases name them: deleting the account would take those along.
    """

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "full_name", "kind", "is_active", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser")
    search_fields = ("username", "email", "first_name", "last_name")
    readonly_fields = ("last_login", "date_joined", "works_in")
    list_per_page = 50
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Work", {"fields": ("works_in",)}),
        ("Rights", {"fields": ("is_active", *RIGHTS)}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )

    @admin.display(description="name")
    def full_name(self, person: User) -> str:
        return person.get_full_name() or NOTHING

    @admin.display(description="kind", ordering="is_staff")
    def kind(self, person: User) -> SafeString | str:
        if person.is_superuser:
            return badge("superuser", "care")
        return badge("staff", "busy") if person.is_staff else NOTHING

    @admin.display(description="projects")
    def works_in(self, person: User) -> SafeString | str:
        rows = Membership.objects.filter(user=person).select_related("project").order_by("project__name")
        links = format_html_join(", ", "{} ({})", ((row_link(item.project), item.role) for item in rows))
        return links or NOTHING

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        if not super().has_change_permission(request, obj):
            return False
        if is_superuser(request) or not isinstance(obj, User):
            return True
        return not (obj.is_staff or obj.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: models.Model | None = None) -> tuple[str, ...]:
        always = tuple(super().get_readonly_fields(request, obj))
        return always if is_superuser(request) else (*always, *RIGHTS)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        with transaction.atomic():  # the new password and the event of it
            return super().user_change_password(request, id, form_url)

    def log_addition(self, request: HttpRequest, obj: User, message: Any) -> Any:
        _record_person(request, "add_person", obj, message)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: User, message: Any) -> Any:
        _record_person(request, "change_person", obj, message)
        return super().log_change(request, obj, message)


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Sets of rights. Whoever edits a group that they are in gives rights to themselves: superusers only."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return is_superuser(request)

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return is_superuser(request)


def _record_person(request: HttpRequest, verb: str, person: User, message: Any) -> None:
    told = message if isinstance(message, list) else [{"message": str(message)}]
    events.record(project=None, actor=person_of(request), verb=verb, subject=person, data={"changes": told})


@admin.register(ApiToken)
class ApiTokenAdmin(ReadingAdmin):
    """Programs' keys: seen without their secret; deleting one revokes it."""

    list_display = ("name", "user", "created", "expires_at")
    list_select_related = ("user",)
    fields = ("name", "user", "created_at", "expires_at")
    search_fields = ("user__username",)
    search_help_text = "the owner's username"
    word_is = "user__username"
    ordering = ("-id",)

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return self.may(request, "delete")

    def delete_model(self, request: HttpRequest, obj: ApiToken) -> None:
        with transaction.atomic():
            data = {"name": obj.name, "user": obj.user_id}
            events.record(project=None, actor=person_of(request), verb="revoke_token", subject=obj, data=data)
            obj.delete()

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[ApiToken]) -> None:
        with transaction.atomic():
            for token in queryset:
                self.delete_model(request, token)
