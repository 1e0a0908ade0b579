"""What beat has done, how often in seconds, and on which queue."""

from typing import Any

from inference.protocol import QUEUE_CONTROL, QUEUE_OUTBOUND


def schedule(sweep_s: float) -> dict[str, dict[str, Any]]:
    """Return Celery's schedule; what repairs and relays runs every `sweep_s`."""
    rows = [
        ("repair-dispatch", "jobs.sweep", sweep_s, QUEUE_CONTROL),
        ("deliver-webhooks", "jobs.deliver_webhooks", sweep_s, QUEUE_OUTBOUND),
        ("seal-meters", "billing.seal_batches", sweep_s, QUEUE_CONTROL),
        ("relay-meters", "billing.relay_batches", sweep_s, QUEUE_OUTBOUND),
        ("close-statements", "billing.close_statements", 3600.0, QUEUE_CONTROL),
        ("send-payouts", "billing.send_payouts", 60.0, QUEUE_OUTBOUND),
        ("mail-vendors", "billing.mail_vendors", 60.0, QUEUE_OUTBOUND),
        ("close-months", "billing.close_months", 3600.0, QUEUE_OUTBOUND),
        ("collect-invoices", "billing.collect_invoices", 60.0, QUEUE_OUTBOUND),
        ("mail-invoices", "billing.mail_invoices", 60.0, QUEUE_OUTBOUND),
        ("reconcile-meters", "billing.reconcile", 3600.0, QUEUE_OUTBOUND),
        ("hear-stripe", "billing.process_stripe_events", sweep_s, QUEUE_OUTBOUND),
        ("poll-top-ups", "billing.poll_top_ups", 60.0, QUEUE_OUTBOUND),
        ("recharge", "billing.recharge", 2 * sweep_s, QUEUE_OUTBOUND),
        ("send-returns", "billing.send_returns", 2 * sweep_s, QUEUE_OUTBOUND),
        ("forget-stripe", "billing.prune_stripe_events", 3600.0, QUEUE_CONTROL),
        ("audit-ledger", "billing.audit", 900.0, QUEUE_CONTROL),
        ("expire-files", "jobs.expire_files", 900.0, QUEUE_CONTROL),
    ]
    return {
        name: {
            "task": task,
            "schedule": every,
            # A beat that outlives its period is stale: the next one does the same work.
            "options": {"queue": queue, "expires": max(every, 5.0)},
        }
        for name, task, every, queue in rows
    }
