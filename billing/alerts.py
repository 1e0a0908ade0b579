"""Tells organisations that a monthly budget or the balance runs out: once, by mail and webhook.

An alert and its event for the organisation's server are written in one transaction, so each is
made exactly once. The mail goes out afterwards: if the process dies between sending it and
noting that, it is sent again.
"""

import uuid
from datetime import date, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import connection, transaction
from django.db.models import BooleanField, Exists, ExpressionWrapper, OuterRef, Q
from django.template.loader import render_to_string

from billing.mail import MailServerAway, Outcome, mail_try
from billing.models import BillingProfile, SpendAlert
from billing.services import month_of
from marketplace.accounts import audit
from marketplace.accounts.events import event_create
from marketplace.accounts.models import Membership, Organisation, Role
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput
from marketplace.core.money import MAX_NANO

PERCENTS = (50, 80, 100)
LOW = 0
MAIL_FOR = timedelta(days=3)

# Of several thresholds crossed since the last look only the highest is told. A subject that is
# `refused` a call has crossed them all: a hard limit is hardly ever spent to the last bit.
_CROSSED = """
WITH crossed AS (
    SELECT s.org_id, s.id AS subject_id, s.subject, p.percent, c.spent_nano, s.budget
    FROM billing_spendcap c JOIN (
        SELECT id AS org_id, id, 'organisation ' || name AS subject, monthly_budget_nano AS budget
        FROM accounts_organisation
        UNION ALL
        SELECT org_id, id, 'project ' || name, monthly_budget_nano
        FROM accounts_project WHERE archived_at IS NULL
        UNION ALL
        SELECT org_id, id, 'key ' || name, monthly_budget_nano
        FROM accounts_apikey WHERE revoked_at IS NULL) s ON s.id = c.subject_id
    CROSS JOIN unnest(%(percents)s::int[]) AS p (percent)
    WHERE c.month = %(month)s AND s.budget > 0
      AND CASE WHEN %(refused)s::uuid IS NULL
               THEN c.spent_nano::numeric * 100 >= s.budget::numeric * p.percent
               ELSE s.id = %(refused)s::uuid END
      AND (%(refused)s::uuid IS NULL OR c.subject_id = %(refused)s::uuid)),
new AS (
    INSERT INTO billing_spendalert
        (org_id, subject_id, subject, month, percent, spent_nano, limit_nano, created_at)
    SELECT org_id, subject_id, left(subject, 120), %(month)s, percent, spent_nano, budget, %(now)s
    FROM crossed ON CONFLICT ON CONSTRAINT spend_alert_once DO NOTHING
    RETURNING id, subject_id, percent)
SELECT id, percent = max(percent) OVER (PARTITION BY subject_id) FROM new
"""

# Held money counts: a balance that is only reserved has not gone yet. What it says falls only by
# spending, so that a balance near its mark is not told of again and again.
_BALANCES = """
SELECT b.org_id, b.alert_below_nano, (
    SELECT COALESCE(sum(prepaid_nano + limit_nano - owed_nano), 0)
    FROM billing_walletshard w WHERE w.org_id = b.org_id) + (
    SELECT COALESCE(sum(remaining_nano), 0) FROM billing_grant g
    WHERE g.org_id = b.org_id AND remaining_nano > 0 AND model_id IS NULL AND vendor_id IS NULL
      AND (expires_at IS NULL OR expires_at > %(now)s)) AS left_nano
FROM billing_billingprofile b WHERE b.alert_below_nano > 0
"""
_LOW = f"""
INSERT INTO billing_spendalert
    (org_id, subject_id, subject, month, percent, spent_nano, limit_nano, created_at)
SELECT org_id, org_id, 'balance', %(month)s, 0, GREATEST(left_nano, 0), alert_below_nano, %(now)s
FROM ({_BALANCES}) b WHERE left_nano < alert_below_nano
ON CONFLICT ON CONSTRAINT spend_alert_once DO NOTHING RETURNING id, true
"""  # noqa: S608 -- only constants
_RECOVERED = f"""
DELETE FROM billing_spendalert a USING ({_BALANCES}) b
WHERE a.org_id = b.org_id AND a.subject_id = b.org_id AND a.percent = 0
  AND a.mailed_at IS NOT NULL AND b.left_nano >= b.alert_below_nano
"""  # noqa: S608 -- only constants


def _data(alert: SpendAlert) -> dict[str, Any]:
    """Return what the organisation's server is told."""
    if alert.percent == LOW:
        return {"left_nano_usd": alert.spent_nano, "alert_below_nano_usd": alert.limit_nano}
    return {
        "budget_of": alert.subject.partition(" ")[0],
        "id": str(alert.subject_id),
        "subject": alert.subject,
        "month": f"{alert.month:%Y-%m}",
        "percent": alert.percent,
        "spent_nano_usd": alert.spent_nano,
        "budget_nano_usd": alert.limit_nano,
        "refused": alert.is_refusal,
    }


def _raise(sql: str, parameters: dict[str, Any]) -> int:
    """Write new alerts with their events; those not to be told count as told. Returns how many."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            found = dict(cursor.fetchall())
        alerts = SpendAlert.objects.filter(pk__in=found).select_related("org")
        for alert in alerts:
            if not found[alert.pk]:
                continue
            event = "balance.low" if alert.percent == LOW else "budget.alert"
            event_create(org=alert.org, event=event, source=alert.pk, data=_data(alert))
        SpendAlert.objects.filter(pk__in=[pk for pk, tell in found.items() if not tell]).update(
            mailed_at=now()
        )
    return len(found)


def alerts_raise() -> int:
    """Find the thresholds that were crossed and not told of. Returns how many there were.

    A balance that has recovered can be told of again.
    """
    parameters: dict[str, Any] = {
        "now": now(),
        "month": month_of(now()),
        "percents": list(PERCENTS),
        "refused": None,
    }
    with connection.cursor() as cursor:
        cursor.execute(_RECOVERED, parameters)
    return _raise(_CROSSED, parameters) + _raise(_LOW, parameters)


def budget_refused(*, subject_id: uuid.UUID, quote_nano: int, budget_nano: int) -> bool:
    """Note that a call was refused for a budget: that counts as reaching 100 % of it.

    Call it after the refused call was rolled back. A quote above the whole budget says nothing
    of what is left. Returns whether it is news.
    """
    month = month_of(now())
    known = SpendAlert.objects.filter(subject_id=subject_id, month=month, percent=max(PERCENTS))
    if quote_nano > budget_nano or known.exists():
        return False
    parameters = {
        "now": now(),
        "month": month,
        "percents": list(PERCENTS),
        "refused": subject_id,
    }
    return bool(_raise(_CROSSED, parameters))


def recipients_of(org_id: uuid.UUID) -> list[str]:
    """Return who is told about money: the billing address, else owners and billing members."""
    profile = BillingProfile.objects.for_org(org_id).exclude(email="").first()
    if profile is not None:
        return [profile.email]
    return list(
        Membership.objects.for_org(org_id)
        .filter(role__in=[Role.OWNER, Role.BILLING], user__is_active=True)
        .order_by("user__email")
        .values_list("user__email", flat=True)
    )


def _mail(alert: SpendAlert) -> None:
    if not (to := recipients_of(alert.org_id)):
        return
    if alert.percent == LOW:
        subject, template = f"The balance of {alert.org} is low", "emails/balance_low.txt"
    else:
        subject = f"{alert.percent} % of the budget of {alert.subject} is spent"
        if alert.is_refusal:
            subject = f"A call did not fit into the budget of {alert.subject}"
        template = "emails/budget_alert.txt"
    body = render_to_string(
        template,
        {"alert": alert, "site_name": settings.SITE_NAME, "public_url": settings.PUBLIC_URL},
    )
    subject = " ".join(f"[{settings.SITE_NAME}] {subject}".split())
    EmailMessage(subject, body, None, to).send()


def alerts_mail(limit: int = 100) -> int:
    """Send the mails that are due. Returns how many alerts were told.

    One that cannot be sent is tried again for three days; newer ones do not wait for it.
    """
    due = SpendAlert.objects.filter(mailed_at__isnull=True, created_at__gt=now() - MAIL_FOR)
    told = 0
    for alert_id in due.order_by("-created_at").values_list("pk", flat=True):
        if told >= limit:
            break
        with transaction.atomic():
            alert = (
                SpendAlert.objects.select_for_update(skip_locked=True, of=("self",))
                .select_related("org")
                .filter(pk=alert_id, mailed_at__isnull=True)
                .first()
            )
            if alert is None:
                continue  # another process tells it
            try:
                outcome = mail_try(f"alert:{alert_id}", partial(_mail, alert))
            except MailServerAway:
                return told
            if outcome is Outcome.LATER:
                continue
            alert.mailed_at = now()
            alert.save(update_fields=["mailed_at"])
            told += outcome is Outcome.SENT
    return told


def alert_below_set(*, org_id: uuid.UUID, below_nano: int | None) -> None:
    """Say below which balance an organisation is told; None is never."""
    if below_nano is not None and not 0 <= below_nano <= MAX_NANO:
        raise InvalidInput("It is out of range.", fields={"alert_below_nano": ["Out of range."]})
    BillingProfile.objects.update_or_create(
        org_id=org_id, defaults={"alert_below_nano": below_nano}
    )
    audit.record(org=Organisation(pk=org_id), action="billing.alert", below_nano=below_nano)


def alert_below_of(org_id: uuid.UUID) -> int | None:
    """Return below which balance an organisation is told, or None."""
    profile = BillingProfile.objects.for_org(org_id).first()
    return profile.alert_below_nano if profile else None


def alerts_of(org_id: uuid.UUID, since: date) -> list[SpendAlert]:
    """Return the alerts of an organisation from the month `since` on, newest first.

    Those with `is_passed` were crossed together with a higher one, which alone was told.
    """
    higher = SpendAlert.objects.filter(
        subject_id=OuterRef("subject_id"),
        month=OuterRef("month"),
        created_at=OuterRef("created_at"),
        percent__gt=OuterRef("percent"),
    )
    rows = SpendAlert.objects.for_org(org_id).filter(month__gte=since)
    passed = ExpressionWrapper(Q(Exists(higher), percent__gt=LOW), output_field=BooleanField())
    return list(rows.annotate(is_passed=passed).order_by("-created_at", "-percent")[:100])
