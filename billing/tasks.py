"""Celery entry points of billing."""

from celery import shared_task

from billing import alerts, invariants, meters, recharge, returns, topups, wallets
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


@shared_task(name="billing.poll_top_ups")
def poll_top_ups() -> None:
    """Ask Stripe about top-ups that wait, and about fees that were not known yet."""
    topups.top_ups_poll()
    topups.fees_poll()


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
