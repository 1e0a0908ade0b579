"""What runs by itself, how often, and on which queue: celery beat's schedule."""

from typing import Any

from inference import protocol


def beat_schedule(sweep: float) -> dict[str, dict[str, Any]]:
    """Return the schedule; what repairs and relays runs every `sweep` seconds."""
    return {
        name: {
            "task": task,
            "schedule": every,
            # A beat that outlives its period is stale: the next one does the same work.
            "options": {"queue": queue, "expires": max(every, 5.0)},
        }
        for name, task, every, queue in [
            ("repair-dispatch", "jobs.sweep", sweep, protocol.QUEUE_CONTROL),
            ("deliver-webhooks", "jobs.deliver_webhooks", sweep, protocol.QUEUE_OUTBOUND),
            ("send-account-events", "accounts.send_events", sweep, protocol.QUEUE_OUTBOUND),
            ("mail-endpoints", "jobs.mail_endpoints", 60.0, protocol.QUEUE_OUTBOUND),
            ("send-alerts", "billing.send_alerts", 60.0, protocol.QUEUE_OUTBOUND),
            ("expire-grants", "billing.expire_grants", 60.0, protocol.QUEUE_CONTROL),
            ("rebalance-wallets", "billing.rebalance_wallets", 60.0, protocol.QUEUE_CONTROL),
            ("seal-meters", "billing.seal_batches", sweep, protocol.QUEUE_CONTROL),
            ("relay-meters", "billing.relay_batches", sweep, protocol.QUEUE_OUTBOUND),
            ("close-statements", "billing.close_statements", 3600.0, protocol.QUEUE_CONTROL),
            ("send-payouts", "billing.send_payouts", 60.0, protocol.QUEUE_OUTBOUND),
            ("mail-vendors", "billing.mail_vendors", 60.0, protocol.QUEUE_OUTBOUND),
            ("close-months", "billing.close_months", 3600.0, protocol.QUEUE_OUTBOUND),
            ("collect-invoices", "billing.collect_invoices", 60.0, protocol.QUEUE_OUTBOUND),
            ("mail-invoices", "billing.mail_invoices", 60.0, protocol.QUEUE_OUTBOUND),
            ("reconcile-meters", "billing.reconcile", 3600.0, protocol.QUEUE_OUTBOUND),
            (
                "hear-stripe",
                "billing.process_stripe_events",
                sweep,
                protocol.QUEUE_OUTBOUND,
            ),
            ("poll-top-ups", "billing.poll_top_ups", 60.0, protocol.QUEUE_OUTBOUND),
            ("recharge", "billing.recharge", 2 * sweep, protocol.QUEUE_OUTBOUND),
            ("send-returns", "billing.send_returns", 2 * sweep, protocol.QUEUE_OUTBOUND),
            ("forget-stripe", "billing.prune_stripe_events", 3600.0, protocol.QUEUE_CONTROL),
            ("audit-ledger", "billing.audit", 900.0, protocol.QUEUE_CONTROL),
            ("expire-files", "jobs.expire_files", 900.0, protocol.QUEUE_CONTROL),
            ("refresh-standings", "jobs.refresh_standings", 60.0, protocol.QUEUE_CONTROL),
            ("check-uploads", "catalog.check_uploads", 30.0, protocol.QUEUE_OUTBOUND),
            ("expire-uploads", "catalog.expire_uploads", 3600.0, protocol.QUEUE_OUTBOUND),
            ("purge-jobs", "jobs.purge", 900.0, protocol.QUEUE_CONTROL),
        ]
    }
