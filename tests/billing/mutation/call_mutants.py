"""Bugs that reserve and settle must not have, by the statements of their SQL functions."""

from tests.billing.mutation.mutant import Mutant

CALLS = "billing/sql/0009_few_statements.sql"
WALLET = "billing/sql/wallet.sql"
SETTLE = "billing/sql/settle.sql"
PAID = ("tests/billing/test_a_call_is_paid_for_in_order.py",)
SHARDS = ("tests/billing/test_shards_pay_together.py",)
LOCKS = ("tests/billing/test_locks_are_taken_in_one_order.py",)
GROWS = ("tests/billing/test_ledger_only_grows.py",)

_RESERVE = (
    Mutant(
        "only one of a call's budgets counts",
        CALLS,
        "            ORDER BY subject\n        LOOP\n",
        "            ORDER BY subject LIMIT 1\n        LOOP\n",
        PAID,
    ),
    Mutant(
        "a call's budgets are locked last first",
        CALLS,
        "            ORDER BY subject\n        LOOP\n",
        "            ORDER BY subject DESC\n        LOOP\n",
        LOCKS,
    ),
    Mutant(
        "a call draws on what a grant holds for others",
        CALLS,
        "SELECT id, remaining_nano - held_nano AS free",
        "SELECT id, remaining_nano AS free",
        PAID,
    ),
    Mutant(
        "a grant for one vendor pays for any",
        CALLS,
        "          AND (vendor_id IS NULL OR vendor_id = p_vendor)\n",
        "",
        PAID,
    ),
    Mutant(
        "a hold forgets that grants are a part of it",
        CALLS,
        "    IF v_has_grants OR v_shard <> v_home THEN\n",
        "    IF v_shard <> v_home THEN\n",
        PAID,
    ),
    Mutant(
        "a hold in one of several shards is not checked",
        WALLET,
        "              AND prepaid_nano + limit_nano - owed_nano - held_nano >= p_amount\n"
        "              AND NOT EXISTS",
        "              AND NOT EXISTS",
        PAID,
    ),
    Mutant(
        "a short shard stays locked while all are taken",
        WALLET,
        "        RAISE EXCEPTION USING ERRCODE = 'MK001';\n",
        "",
        LOCKS,
    ),
    Mutant(
        "a hold locks the last shard first",
        WALLET,
        "move what is missing into this one.\n"
        "    PERFORM FROM billing_walletshard WHERE org_id = p_org ORDER BY shard FOR UPDATE",
        "move what is missing into this one.\n"
        "    PERFORM FROM billing_walletshard WHERE org_id = p_org ORDER BY shard DESC FOR UPDATE",
        LOCKS,
    ),
)

_SETTLE_WALLET = (
    Mutant(
        "an end locks the last shard first",
        WALLET,
        "    THEN\n"
        "        PERFORM FROM billing_walletshard WHERE org_id = p_org ORDER BY shard FOR UPDATE",
        "    THEN\n"
        "        PERFORM FROM billing_walletshard WHERE org_id = p_org ORDER BY shard DESC"
        " FOR UPDATE",
        LOCKS,
    ),
    Mutant(
        "an end makes a debt while other shards have money",
        CALLS,
        "s.prepaid_nano < p_amount AND o.prepaid > 0\n",
        "false\n",
        SHARDS,
    ),
    Mutant(
        "an end pays with what its shard no longer has",
        CALLS,
        "\n                  AND LEAST(prepaid_nano, p_amount) = v_prepaid;",
        ";",
        SHARDS,
    ),
    Mutant(
        "what a hold did not need stays held in its shard",
        CALLS,
        "        BEGIN\n            UPDATE billing_walletshard SET held_nano = held_nano - p_held,",
        "        BEGIN\n"
        "            UPDATE billing_walletshard SET held_nano = held_nano - p_amount,",
        PAID,
    ),
    Mutant(
        "debt is made before prepaid money is used",
        WALLET,
        "    v_prepaid := LEAST(v_prepaid, p_amount);\n",
        "    v_prepaid := 0;\n",
        SHARDS,
    ),
)

_SETTLE = (
    Mutant(
        "a charge may exceed its hold",
        CALLS,
        "IF p_amount < 0 OR p_amount > v_hold.amount_nano THEN",
        "IF p_amount < 0 THEN",
        PAID,
    ),
    Mutant(
        "shares may exceed the charge",
        CALLS,
        "IF v_vendors > p_amount THEN",
        "IF false THEN",
        GROWS,
    ),
    Mutant(
        "budgets are locked last first when a call ends",
        CALLS,
        "ORDER BY subject_id FOR UPDATE",
        "ORDER BY subject_id DESC FOR UPDATE",
        LOCKS,
    ),
    Mutant(
        "what a call did not need stays reserved of its budgets",
        CALLS,
        "SET held_nano = held_nano - v_hold.amount_nano, spent_nano",
        "SET held_nano = held_nano - p_amount, spent_nano",
        PAID,
    ),
    Mutant(
        "a call that cost nothing counts as charged",
        CALLS,
        "CASE WHEN p_amount > 0 THEN 'captured' ELSE 'released' END",
        "'captured'",
        PAID,
    ),
    Mutant(
        "budgets count quotes as spent",
        CALLS,
        "spent_nano = spent_nano + p_amount\n",
        "spent_nano = spent_nano + v_hold.amount_nano\n",
        PAID,
    ),
    Mutant(
        "what a hold took of a grant stays held",
        SETTLE,
        "SET held_nano = held_nano - v_draw.held_nano,",
        "SET held_nano = held_nano - v_part,",
        PAID,
    ),
    Mutant(
        "a grant pays all that it held",
        SETTLE,
        "LEAST(v_draw.held_nano, p_amount - v_paid)",
        "v_draw.held_nano",
        PAID,
    ),
    Mutant(
        "money pays again what a grant has paid",
        CALLS,
        "    v_postpaid := p_amount - v_granted;\n",
        "    v_postpaid := p_amount;\n",
        PAID,
    ),
    Mutant(
        "what prepaid money paid is owed too",
        CALLS,
        "        v_postpaid := v_postpaid - v_prepaid;\n",
        "",
        PAID,
    ),
    Mutant(
        "the platform keeps the vendors' shares too",
        CALLS,
        "(v_clearing, v_revenue, p_amount - v_vendors, 'fee', 0)",
        "(v_clearing, v_revenue, p_amount, 'fee', 0)",
        PAID,
    ),
    Mutant(
        "promotional credit does not pay the vendor",
        CALLS,
        "    ) AS leg (debit, credit, amount, kind, leg) WHERE amount > 0;",
        "    ) AS leg (debit, credit, amount, kind, leg)\n"
        "    WHERE amount > 0 AND (kind <> 'share' OR v_granted < p_amount);",
        PAID,
    ),
    Mutant(
        "the shares of a charge are all one leg",
        CALLS,
        "share.amount, 'share', share.leg\n",
        "share.amount, 'share', 0\n",
        PAID,
    ),
    Mutant(
        "one leg of a source can be posted twice",
        "billing/migrations/0001_initial.py",
        'fields=("source_id", "kind", "leg"), name="transfer_once"',
        'fields=("source_id", "kind", "leg", "id"), name="transfer_once"',
        GROWS,
    ),
)

CALL_MUTANTS = _RESERVE + _SETTLE_WALLET + _SETTLE
