"""What tables have in common in the console: read-only rows, queues, actions with a note."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ActionForm
from django.contrib.auth import get_permission_codename
from django.db.models import Model as Row
from django.db.models import QuerySet
from django.http import HttpRequest


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows that the console shows but never changes by hand."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes; viewing needs only the view permission."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes."""
        return False

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Tell who may use actions: holders of the change permission; rows stay read-only."""
        name = get_permission_codename("change", self.opts)
        return bool(request.user.has_perm(f"{self.opts.app_label}.{name}"))


class OutboxAdmin(ReadOnly):
    """A table that is also a queue: failed rows can be replayed."""

    list_filter = ("delivery",)
    actions: tuple[str, ...] = ("replay",)

    @admin.action(permissions=["act"], description="Replay failed rows")
    def replay(self, request: HttpRequest, queryset: "QuerySet[Row]") -> None:
        """Make failed rows due again."""
        self.message_user(request, f"{queryset.model.replay(queryset)} rows are due again.")  # type: ignore[attr-defined]


class NoteForm(ActionForm):
    """An action with a note for the vendor."""

    note = forms.CharField(required=False, max_length=4000, label="Note to the vendor")
