"""Celery entry points of billing."""

from celery import shared_task

from billing import (
    alerts,
    fees,
    invariants,
    meter_checks,
    meters,
    payouts,
    recharge,
    returns,
    topups,
    wallets,
)
from billing.invoicing import close, collect, credit_notes, follow, mails, months, subscriptions
from billing.statements import close as statements_close
from billing.statements import mail
from billing.stripe import inbox


@shared_task(name="billing.seal_batches")
def seal_batches() -> None:
    """Seal finished minutes into batches."""
    meters.batches_seal()


@shared_task(name="billing.relay_batches")
def relay_batches() -> None:
    """Tell Stripe of sealed batches."""
    meters.batches_relay()


@shared_task(name="billing.process_stripe_events")
def process_stripe_events() -> None:
    """Act on what Stripe has told us."""
    inbox.events_process()


@shared_task(name="billing.prune_stripe_events")
def prune_stripe_events() -> None:
    """Forget events that were processed long ago."""
    inbox.events_prune()


@shared_task(name="billing.close_statements")
def close_statements() -> None:
    """Close vendors' statements of the last month, some days after its end."""
    statements_close.statements_close_due()


@shared_task(name="billing.send_payouts")
def send_payouts() -> None:
    """Pay out what statements say."""
    payouts.payouts_send()


@shared_task(name="billing.mail_vendors")
def mail_vendors() -> None:
    """Write to vendors about statements, payouts and refused ones."""
    mail.vendors_mail()


@shared_task(name="billing.poll_top_ups")
def poll_top_ups() -> None:
    """Ask Stripe about top-ups that wait, and about fees that were not known yet."""
    topups.top_ups_poll()
    fees.fees_poll()


@shared_task(name="billing.recharge")
def recharge_balances() -> None:
    """Recharge balances that run low."""
    recharge.recharges_run()


@shared_task(name="billing.send_returns")
def send_returns() -> None:
    """Have Stripe send back what staff returned."""
    returns.returns_send()


@shared_task(name="billing.audit")
def audit() -> None:
    """Check the invariants, and what hangs; each broken one becomes an incident."""
    found = invariants.audit()
    for finding in found:
        if finding.rows:
            invariants.incident_open(finding.rule, repr(finding.rows))
    for kind, detail in meter_checks.overdue().items():
        invariants.incident_open(kind, detail)
    invariants.audit_remember(found)


@shared_task(name="billing.close_months")
def close_months() -> None:
    """Issue the invoices of months that ended long enough ago, and of drafts left over."""
    for month in months.months_to_close():
        if months.is_settled(month):
            close.close(month)


@shared_task(name="billing.collect_invoices")
def collect_invoices() -> None:
    """Subscribe who may owe; hold new drafts; finish what was left undone; pass on notes."""
    subscriptions.subscriptions_ensure()
    follow.drafts_hold()
    collect.finish_left()
    credit_notes.credit_notes_relay()


@shared_task(name="billing.reconcile")
def reconcile() -> None:
    """Compare Stripe's count of usage with what it was told."""
    meter_checks.reconcile()


@shared_task(name="billing.mail_invoices")
def mail_invoices() -> None:
    """Tell organisations of new invoices."""
    mails.invoices_mail()


@shared_task(name="billing.send_alerts")
def send_alerts() -> None:
    """Tell of budgets and balances that run out."""
    alerts.alerts_raise()
    alerts.alerts_mail()


@shared_task(name="billing.expire_grants")
def expire_grants() -> None:
    """Take back what expired grants have left."""
    wallets.grants_expire()


@shared_task(name="billing.rebalance_wallets")
def rebalance_wallets() -> None:
    """Even out sharded wallets that calls have made uneven."""
    wallets.lopsided_rebalance()
