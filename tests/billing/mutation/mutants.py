"""Bugs that billing must not have, as changes of its source, with the tests that must fail."""

from tests.billing.mutation.call_mutants import CALL_MUTANTS
from tests.billing.mutation.invoice_mutants import INVOICE_MUTANTS
from tests.billing.mutation.mutant import Mutant
from tests.billing.mutation.vendor_mutants import VENDOR_MUTANTS

CALLS = "billing/sql/0009_few_statements.sql"
WALLET = "billing/sql/wallet.sql"
METERS = "billing/meters.py"
TOLD = ("tests/billing/test_stripe_is_told_everything_once.py",)
ORDER = ("tests/billing/test_wallet_under_any_order.py",)
PAID = ("tests/billing/test_a_call_is_paid_for_in_order.py",)
RUSH = ("tests/billing/test_two_at_once.py",)
SHARDS = ("tests/billing/test_shards_pay_together.py",)
REFUNDS = ("tests/billing/test_refunds_mirror_the_charge.py",)

MUTANTS = (
    Mutant(
        "each attempt has a fresh identifier",
        METERS,
        "identifier=str(batch.pk),",
        "identifier=str(uuid.uuid4()),",
        TOLD,
    ),
    Mutant(
        "a batch is marked before it is sent",
        METERS,
        "    sent = pool.map(",
        "    MeterBatch.mark_all_delivered(b for b, _ in own)\n    sent = pool.map(",
        TOLD,
    ),
    Mutant(
        "all attempts have one Idempotency-Key",
        METERS,
        'return f"{batch.pk}:{batch.attempts}"',
        'return f"{batch.pk}"',
        TOLD,
    ),
    Mutant(
        "a replayed batch forgets that it was sent",
        "marketplace/core/outbox.py",
        '            replayed_at_attempt=F("attempts"),\n',
        '            replayed_at_attempt=F("attempts"),\n            first_attempt_at=None,\n',
        TOLD,
    ),
    Mutant(
        "parts of a micro-dollar are forgotten at each batch",
        METERS,
        "micro = (past + amount) // 1000 - past // 1000",
        "micro = amount // 1000",
        TOLD,
    ),
    Mutant(
        "what is given back is told as if it were charged",
        METERS,
        "((Charge, 1), (Refund, -1))",
        "((Charge, 1), (Refund, 1))",
        ("tests/billing/test_batches_lose_nothing.py",),
    ),
    Mutant(
        "an error that Stripe keeps for a day stops a top-up for a day",
        "billing/stripe/attempts.py",
        "if error.is_replay and attempt < _ATTEMPTS - 1:",
        "if False:",
        ("tests/billing/stripe/test_gateway_takes_payments.py",),
    ),
    Mutant(
        "a hold ends twice",
        CALLS,
        "WHERE source_id = p_source AND state = 'open'\n",
        "WHERE source_id = p_source\n",
        PAID,
    ),
    Mutant(
        "a hold is not checked against what is there",
        CALLS,
        "              AND prepaid_nano + limit_nano - owed_nano - held_nano >= v_need;\n",
        ";\n",
        RUSH,
    ),
    Mutant(
        "a budget forgets what is held",
        CALLS,
        "AND spent_nano + held_nano + p_amount <= v_cap.most",
        "AND spent_nano + p_amount <= v_cap.most",
        RUSH,
    ),
    Mutant(
        "what a hold did not need stays held",
        CALLS,
        "    IF NOT v_is_sharded THEN\n"
        "        UPDATE billing_walletshard SET held_nano = held_nano - p_held,",
        "    IF NOT v_is_sharded THEN\n"
        "        UPDATE billing_walletshard SET held_nano = held_nano - p_amount,",
        PAID,
    ),
    Mutant(
        "a call pays with prepaid money that another one has just used",
        CALLS,
        "\n              AND LEAST(prepaid_nano, p_amount) = v_prepaid;",
        ";",
        SHARDS,
    ),
    Mutant(
        "an emptied shard stays locked while all are taken",
        CALLS,
        "            RAISE EXCEPTION USING ERRCODE = 'MK001';\n",
        "",
        ("tests/billing/test_locks_are_taken_in_one_order.py",),
    ),
    Mutant(
        "what a hold moves between shards stays where it was too",
        WALLET,
        "SET prepaid_nano = prepaid_nano - v_prepaid,\n"
        "                                       limit_nano = limit_nano - (v_part",
        "SET prepaid_nano = prepaid_nano,\n"
        "                                       limit_nano = limit_nano - (v_part",
        SHARDS,
    ),
    Mutant(
        "a shard makes a debt while others have money",
        WALLET,
        "IF v_prepaid < p_amount AND EXISTS (",
        "IF false AND EXISTS (",
        SHARDS,
    ),
    Mutant(
        "an expired grant still pays",
        CALLS,
        "          AND (expires_at IS NULL OR expires_at > p_now)\n",
        "",
        PAID,
    ),
    Mutant(
        "the last grant to be used is used first",
        CALLS,
        "ORDER BY priority, expires_at NULLS LAST, id FOR UPDATE",
        "ORDER BY priority DESC, expires_at NULLS LAST, id FOR UPDATE",
        PAID,
    ),
    Mutant(
        "a grant for one model pays for any",
        CALLS,
        "          AND (model_id IS NULL OR model_id = p_model)\n",
        "",
        PAID,
    ),
    Mutant(
        "a top-up heard of twice is credited twice",
        "billing/services.py",
        '[org_id, derived_id("top_up", source), amount_nano, now()]',
        "[org_id, uuid.uuid4(), amount_nano, now()]",
        ORDER,
    ),
    Mutant(
        "more is given back than is left",
        "billing/refunds.py",
        "if not 0 < amount <= left:",
        "if not 0 < amount <= charge.amount_nano:",
        REFUNDS,
    ),
    Mutant(
        "a repeated refund is another one",
        "billing/refunds.py",
        'refund_id = derived_id("refund", source_id, key)',
        'refund_id = derived_id("refund", source_id, key, now())',
        REFUNDS,
    ),
    Mutant(
        "a vendor keeps the share of what was given back",
        "billing/refunds.py",
        "    for part in shares:\n        _claw_back(refund_id, part, moment)\n",
        "",
        REFUNDS,
    ),
    Mutant(
        "a debt written off comes back as money to spend",
        "billing/refunds.py",
        "and credit_note.invoice.status in GIVEN_UP",
        "and credit_note.invoice.status in ()",
        REFUNDS,
    ),
    Mutant(
        "a refund extends a grant that has not ended",
        "billing/refunds.py",
        "When(expires_at__lte=moment, then=",
        "When(expires_at__isnull=False, then=",
        REFUNDS,
    ),
    Mutant(
        "spending forgets what was given back",
        "billing/selectors.py",
        "spent.get(key, none)[1] - back.get(key, none)[1]",
        "spent.get(key, none)[1]",
        ("tests/billing/test_sums_are_less_refunds.py",),
    ),
    Mutant(
        "a call refused for a budget alarms nobody",
        "marketplace/jobs/services.py",
        "        requests.refusal_note(job, error)\n",
        "",
        ("tests/marketplace/api/test_projects_have_budgets.py",),
    ),
    Mutant(
        "what an issued invoice is due can change",
        "billing/migrations/0008_issued_invoices_stay.py",
        '    "status", "paid_cents",',
        '    "status", "due_cents", "paid_cents",',
        ("tests/billing/invoicing/test_issued_invoices_stay.py",),
    ),
    Mutant(
        "shares are rounded up",
        "billing/split.py",
        "charge_nano * share.bps // WHOLE",
        "-(-charge_nano * share.bps // WHOLE)",
        ("tests/billing/test_split_conserves.py",),
    ),
    *CALL_MUTANTS,
    *INVOICE_MUTANTS,
    *VENDOR_MUTANTS,
)
