"""Django's tables change no money by hand, give nobody rights or addresses, and are audited."""

from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission

from marketplace.console.models import StaffAct
from marketplace.console.rows import Audited, ReadOnly
from tests.cast import person

EDITED = {"accounts.user", "accounts.organisation", "auth.group", "catalog.promotion"}


def test_every_table_is_audited_and_only_four_are_edited():
    tables = admin.site._registry
    assert all(isinstance(found, Audited) for found in tables.values())
    edited = {m._meta.label_lower for m, found in tables.items() if not isinstance(found, ReadOnly)}
    assert edited == EDITED


def test_no_table_of_money_can_be_added_to_changed_or_deleted_from(sam, cast, rf):
    request = rf.get("/console/")
    request.user = cast.sam
    shown = [m for m in apps.get_app_config("billing").get_models() if m in admin.site._registry]
    assert len(shown) > 10
    for model in shown:
        found = admin.site._registry[model]
        assert not found.has_add_permission(request), model
        assert not found.has_change_permission(request), model
        assert not found.has_delete_permission(request), model
        assert "delete_selected" not in found.get_actions(request), model


def test_only_superusers_give_rights_and_it_is_written_down(staff, sam, cast):
    group = Group.objects.create(name="support")
    right = Permission.objects.get(codename="add_grant")
    place = f"/console/auth/group/{group.pk}/change/"
    form = {"name": "support", "permissions": [right.pk]}
    assert staff("view_group", "change_group").post(place, form).status_code == 403
    assert not group.permissions.exists()
    assert sam.post(place, form).status_code == 302
    assert list(group.permissions.all()) == [right]
    assert StaffAct.objects.get().verb == "group.changed"


def test_nobody_changes_addresses_and_staff_change_no_staff(staff, sam, cast):
    eve = person("eve", is_staff=True)
    browser = staff("view_user", "change_user", "view_emailaddress", "change_emailaddress")
    place = f"/console/accounts/user/{eve.pk}/change/"
    assert browser.post(place, {"name": "Eve"}).status_code == 403
    assert browser.get("/console/account/emailaddress/").status_code == 200
    assert browser.get("/console/account/emailaddress/add/").status_code == 403
    eve.refresh_from_db()
    assert eve.is_active
    assert sam.post(place, {"name": "Eve", "is_staff": "on"}).status_code == 302
    eve.refresh_from_db()
    assert not eve.is_active
    assert StaffAct.objects.get().verb == "user.changed"
