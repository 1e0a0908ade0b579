"""Bugs that statements and payouts must not have."""

from tests.billing.mutation.mutant import Mutant

QUERIES, CLOSE = "billing/statements/queries.py", "billing/statements/close.py"
PAYOUTS = "billing/payouts.py"
STATED = ("tests/billing/statements/test_a_month_is_stated.py",)
SENT = ("tests/billing/statements/test_payouts_are_sent_once.py",)

VENDOR_MUTANTS = (
    Mutant(
        "a share is paid out before its invoice is",
        QUERIES,
        "WHEN ch.source_id IS NULL OR ch.postpaid_nano = 0 OR i.status = 'paid'",
        "WHEN true OR i.status = 'paid'",
        STATED,
    ),
    Mutant(
        "a refund of a pending share is taken from other shares",
        QUERIES,
        "    WHERE t.debit_id = %(account)s AND {_FREE}",
        "    WHERE t.debit_id = %(account)s AND {_FREE} AND false",
        STATED,
    ),
    Mutant(
        "what was carried on is forgotten",
        CLOSE,
        "draft_of(month, last.carried_out_nano if last else 0, answer, payouts)",
        "draft_of(month, 0, answer, payouts)",
        STATED,
    ),
    Mutant(
        "a large payout goes without a look",
        CLOSE,
        "needs_approval=is_first or 0 < limit < draft.payout_cents",
        "needs_approval=False",
        STATED,
    ),
    Mutant(
        "Stripe is not asked what it has before another attempt",
        PAYOUTS,
        "if payout.first_attempt_at is not None and",
        "if payout.delivery == Delivery.FAILED and",
        SENT,
    ),
    Mutant(
        "a decided attempt is repeated under its own key",
        PAYOUTS,
        'key_attempt=F("key_attempt") + 1',
        'key_attempt=F("key_attempt") + 0',
        SENT,
    ),
    Mutant(
        "a payout in doubt counts as sent",
        PAYOUTS,
        "    except GatewayUnavailable as error:\n        payout.mark_retry(",
        "    except GatewayUnavailable as error:\n        payout.mark_delivered()\n"
        "        payout.mark_retry(",
        SENT,
    ),
    Mutant(
        "money taken back is booked again by each event",
        PAYOUTS,
        'derived_id("reversal", payout.pk, source)',
        'derived_id("reversal", payout.pk, source, uuid.uuid4())',
        SENT,
    ),
    Mutant(
        "any vendor reads any statement",
        "billing/statements/selectors.py",
        "found = statements_of(org).filter(",
        "found = Statement.objects.filter(",
        ("tests/marketplace/dashboard/test_vendor_money_pages.py",),
    ),
)
