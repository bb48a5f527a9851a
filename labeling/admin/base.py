"""What all of the admin stands on: rows that are only read, and ways to show figures, states and JSON."""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, TypeVar, cast

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.db import models
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

Row = TypeVar("Row", bound=models.Model)

BADGE: Final = (
    "inline-block font-semibold rounded-default text-[11px] uppercase whitespace-nowrap h-6 leading-6 px-2"
)
TONES: Final = {
    "good": "bg-green-100 text-green-700 dark:bg-green-500/20 dark:text-green-400",
    "bad": "bg-red-100 text-red-700 dark:bg-red-500/20 dark:text-red-400",
    "care": "bg-orange-100 text-orange-700 dark:bg-orange-500/20 dark:text-orange-400",
    "busy": "bg-blue-100 text-blue-700 dark:bg-blue-500/20 dark:text-blue-400",
    "calm": "bg-base-500/8 text-base-700 dark:bg-base-500/20 dark:text-base-200",
}
NOTHING: Final = "–"
MAX_ID_DIGITS: Final = 18
"""What surely fits a signed 64-bit column; a longer number would be an error of the database."""
MOST_COUNTED: Final = 10_000


def badge(text: str, tone: str) -> SafeString:
    """A coloured label; `tone` is one of `TONES`."""
    return format_html('<span class="{} {}">{}</span>', BADGE, TONES[tone], text.replace("_", " "))


def bar(share: float) -> SafeString:
    """A progress bar with its figure; `share` is from 0 to 1."""
    percent = f"{100 * share:.0f}"
    return format_html(
        '<div class="flex flex-row gap-2 items-center" style="min-width: 8rem; max-width: 24rem" role="progressbar" '
        'aria-valuenow="{}" aria-valuemin="0" aria-valuemax="100" aria-label="progress">'
        '<div class="bg-base-100 grow overflow-hidden rounded-default dark:bg-base-800">'
        '<div class="h-1.5 bg-primary-600 rounded-default dark:bg-primary-500" style="width: {}%"></div></div>'
        '<span class="text-xs" style="font-variant-numeric: tabular-nums">{} %</span></div>',
        percent,
        percent,
        percent,
    )


def mark(flag: bool, text: str, tone: str = "calm") -> SafeString | str:
    """A label where something holds, nothing where it does not: a red cross would read as a fault."""
    return badge(text, tone) if flag else NOTHING


def moment(at: datetime | None) -> str:
    """A time to the second, in UTC, on one line."""
    return NOTHING if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


def figure(value: float | None, digits: int = 3) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def pretty(value: object) -> SafeString:
    """JSON as it can be read: indented, a list's items each on a line of their own, in a box that scrolls."""
    if isinstance(value, list):
        told = "\n".join(json.dumps(item, ensure_ascii=False) for item in value)
    else:
        told = json.dumps(value, indent=2, ensure_ascii=False)
    return format_html(
        '<pre class="text-xs overflow-auto" style="max-height: 24rem; white-space: pre-wrap">{}</pre>', told
    )


def facts(pairs: Iterable[tuple[str, object]]) -> SafeString:
    """Names and values, one pair a row."""
    rows = format_html_join(
        "",
        '<tr><th scope="row" class="font-medium text-left align-top" style="padding: 0.15rem 1.5rem 0.15rem 0">'
        '{}</th><td style="padding: 0.15rem 0; overflow-wrap: anywhere">{}</td></tr>',
        ((name, value) for name, value in pairs),
    )
    return format_html('<table style="width: auto">{}</table>', rows)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> SafeString:
    """A small table; the first column names the row."""
    cell = "padding: 0.2rem 1.5rem 0.2rem 0; font-variant-numeric: tabular-nums"
    head = format_html_join(
        "",
        '<th scope="col" class="font-medium text-left" style="{}">{}</th>',
        ((cell, name) for name in header),
    )
    body = format_html_join(
        "",
        "<tr>{}</tr>",
        ((format_html_join("", '<td style="{}">{}</td>', ((cell, item) for item in row)),) for row in rows),
    )
    return format_html(
        '<table style="width: auto"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>', head, body
    )


def list_link(model: type[models.Model], text: str, **filters: object) -> SafeString:
    """A link to the list of a model's rows with these filters."""
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist", query=filters)
    return format_html('<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', url, text)


def row_link(row: models.Model | None) -> SafeString | str:
    """A link to a row's own page."""
    if row is None:
        return NOTHING
    url = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    return format_html('<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', url, row)


def each(
    request: HttpRequest,
    rows: Iterable[Row],
    act: Callable[[Row], object],
    *,
    done: str,
    refusals: tuple[type[Exception], ...] = (),
) -> None:
    """Does something to each selected row; says what was done (`done` comes after the names) and what was refused."""
    names = []
    for row in rows:
        name = str(row)
        try:
            act(row)
        except refusals as error:
            messages.error(request, f"{name}: {error}")
        else:
            names.append(name)
    if names:
        told = ", ".join(names) if len(names) <= 5 else f"{', '.join(names[:5])} and {len(names) - 5} more"
        messages.success(request, f"{told}: {done}.")


def as_id(digits: str) -> int | None:
    """The id that these digits spell; nothing when they are too many for any."""
    return int(digits) if len(digits) <= MAX_ID_DIGITS else None


class Refusal(Exception):
    """What was asked makes no sense for this row; the message says why."""


class CappedPaginator(Paginator):  # type: ignore[type-arg]  # Django's is generic only for its stubs
    """Counts no further than anybody turns pages: a million rows take as long as ten thousand."""

    @cached_property
    def count(self) -> int:
        rows = cast(models.QuerySet[Any], self.object_list)
        return rows.order_by()[: MOST_COUNTED + 1].count()


class ReadingAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Rows that are looked at here and changed only by the services; nobody adds, edits or deletes them.

    Lists show a page of rows in a fixed number of queries, and don't count the whole table. `heavy` names
    the columns that a list leaves in the database. A search for a number looks at `number_is`, for anything
    else at `word_is`: one column each, so that its index serves.
    """

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 50
    heavy: ClassVar[tuple[str, ...]] = ()
    number_is: ClassVar[str] = "id"
    word_is: ClassVar[str] = ""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    @admin.display(description="created", ordering="created_at")
    def created(self, row: Any) -> str:
        return moment(row.created_at)

    @admin.display(description="finished", ordering="finished_at")
    def finished(self, row: Any) -> str:
        return moment(row.finished_at)

    def may(self, request: HttpRequest, verb: str) -> bool:
        """Whether this person has Django's permission `verb` (add, change, delete) for these rows."""
        name = f"{self.opts.app_label}.{verb}_{self.opts.model_name}"
        return request.user.has_perm(name)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        return cast(models.QuerySet[Any], super().get_queryset(request).defer(*self.heavy))

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        if term.isdecimal() and self.number_is:
            number = as_id(term)
            return (queryset.none() if number is None else queryset.filter(**{self.number_is: number})), False
        return (queryset.filter(**{self.word_is: term}) if self.word_is else queryset.none()), False


PROJECT_PROSE: Final = ("project__guide",)
"""The long columns of a project, which no list of other rows shows."""


def is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_active and request.user.is_superuser)


def person_of(request: HttpRequest) -> User:
    """Who is logged in: the admin site lets nobody else in."""
    return cast(User, request.user)
