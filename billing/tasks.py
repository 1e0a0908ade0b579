"""Celery entry points of billing."""

from celery import shared_task

from billing import alerts, invariants, meters, wallets


@shared_task(name="billing.seal_batches")
def seal_batches() -> None:
    """Seal finished minutes into batches."""
    meters.batches_seal()


@shared_task(name="billing.relay_batches")
def relay_batches() -> None:
    """Tell Stripe of sealed batches."""
    meters.batches_relay()


@shared_task(name="billing.audit")
def audit() -> None:
    """Check the invariants; each broken one becomes an incident."""
    for finding in invariants.audit():
        if finding.rows:
            invariants.incident_open(finding.rule, repr(finding.rows))


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
