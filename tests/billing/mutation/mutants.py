"""Bugs that billing must not have, as changes of its source, with the tests that must fail."""

from tests.billing.mutation.invoice_mutants import INVOICE_MUTANTS
from tests.billing.mutation.mutant import Mutant
from tests.billing.mutation.vendor_mutants import VENDOR_MUTANTS

SQL = "billing/sql/functions.sql"
METERS = "billing/meters.py"
TOLD = ("tests/billing/test_stripe_is_told_everything_once.py",)
ORDER = ("tests/billing/test_wallet_under_any_order.py",)
RUSH = ("tests/billing/test_two_at_once.py",)
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
        "            outcome = _send(gateway, batch)\n",
        "            batch.mark_delivered()\n            outcome = _send(gateway, batch)\n",
        TOLD,
    ),
    Mutant(
        "all attempts have one Idempotency-Key",
        METERS,
        'idempotency_key=f"{batch.pk}:{batch.attempts}",',
        'idempotency_key=f"{batch.pk}",',
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
        "a hold ends twice",
        SQL,
        "WHERE source_id = p_source AND state = 'open'\n",
        "WHERE source_id = p_source\n",
        ORDER,
    ),
    Mutant(
        "a hold is not checked against what is there",
        SQL,
        """    UPDATE billing_walletshard SET held_nano = held_nano + p_amount
        WHERE org_id = p_org AND shard = v_shard
          AND prepaid_nano + limit_nano - owed_nano - held_nano >= p_amount;
    IF FOUND THEN""",
        """    UPDATE billing_walletshard SET held_nano = held_nano + p_amount
        WHERE org_id = p_org AND shard = v_shard;
    IF FOUND THEN""",
        RUSH,
    ),
    Mutant(
        "a budget forgets what is held",
        SQL,
        "AND spent_nano + held_nano + p_amount <= v_cap.most",
        "AND spent_nano + p_amount <= v_cap.most",
        RUSH,
    ),
    Mutant(
        "what a hold did not need stays held",
        SQL,
        "SET held_nano = held_nano - v_hold.wallet_nano,",
        "SET held_nano = held_nano - v_postpaid - v_prepaid,",
        ORDER,
    ),
    Mutant(
        "an expired grant still pays",
        SQL,
        "          AND (expires_at IS NULL OR expires_at > p_now)\n",
        "",
        ORDER,
    ),
    Mutant(
        "the last grant to be used is used first",
        SQL,
        "ORDER BY priority, expires_at NULLS LAST, id FOR UPDATE",
        "ORDER BY priority DESC, expires_at NULLS LAST, id FOR UPDATE",
        ORDER,
    ),
    Mutant(
        "a grant for one model pays for any",
        SQL,
        "          AND (model_id IS NULL OR model_id = p_model)\n",
        "",
        ORDER,
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
        "shares are rounded up",
        "billing/split.py",
        "charge_nano * share.bps // WHOLE",
        "-(-charge_nano * share.bps // WHOLE)",
        ("tests/billing/test_split_conserves.py",),
    ),
    *INVOICE_MUTANTS,
    *VENDOR_MUTANTS,
)
