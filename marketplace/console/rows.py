"""What tables have in common in the console: read-only rows, queues, actions with a note."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ActionForm
from django.contrib.auth import get_permission_codename
from django.db.models import Model as Row
from django.db.models import QuerySet
from django.http import HttpRequest

from marketplace.console.access import record

_UNSAID = {"action", "csrfmiddlewaretoken", "index", "nonce", "select_across", "_selected_action"}


class Audited(admin.ModelAdmin):  # type: ignore[type-arg]
    """A table of which every change and every action is written into the audit."""

    def response_action(self, request: HttpRequest, queryset: "QuerySet[Any]") -> Any:
        """Act, then write down what was asked for, on which rows, in which words."""
        name, chosen = request.POST.get("action", ""), request.POST.getlist("_selected_action")
        allowed = name in self.get_actions(request)
        answer = super().response_action(request, queryset)
        if allowed and chosen:
            said = [
                f"{field}: {value}"
                for field, value in request.POST.items()
                if value and field not in _UNSAID
            ]
            note = "; ".join([f"rows: {', '.join(chosen)}", *said])
            record(
                request, f"{self.opts.model_name}.{name}", str(self.opts.verbose_name), note=note
            )
        return answer

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Write a change by hand down."""
        record(request, f"{self.opts.model_name}.changed", obj, note=_said(message))
        return super().log_change(request, obj, message)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Write a new row down."""
        record(request, f"{self.opts.model_name}.added", obj, note=_said(message))
        return super().log_addition(request, obj, message)


def _said(message: Any) -> str:
    """Return what changed, in words: Django gives the names of fields."""
    if isinstance(message, str):
        return message
    parts = [part for entry in message for part in entry.get("changed", {}).get("fields", [])]
    return ", ".join(parts)


class ReadOnly(Audited):
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
