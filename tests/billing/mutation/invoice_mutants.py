"""Bugs that the collection of invoices must not have."""

from tests.billing.mutation.mutant import Mutant

PAYMENT = "billing/invoicing/payment.py"
AHEAD = ("tests/billing/invoicing/test_stripe_is_ahead_of_us.py",)
COLLECTED = ("tests/billing/invoicing/test_stripe_collects_what_we_invoice.py",)

INVOICE_MUTANTS = (
    Mutant(
        "prepaid money pays what Stripe is collecting",
        PAYMENT,
        "        locked.stripe_finalized_at\n        or not cents\n",
        "        not cents\n",
        COLLECTED,
    ),
    Mutant(
        "what was collected beyond the debt is forgotten",
        PAYMENT,
        "    if excess <= 0:\n",
        "    if excess:\n",
        COLLECTED,
    ),
    Mutant(
        "what Stripe did not ask for counts as paid",
        PAYMENT,
        "max(0, invoice.outstanding_cents - short_cents)",
        "invoice.outstanding_cents",
        AHEAD,
    ),
    Mutant(
        "only a webhook holds a draft back",
        "billing/tasks.py",
        "    follow.drafts_hold()\n",
        "",
        AHEAD,
    ),
    Mutant(
        "tax is booked as money of ours",
        "billing/stripe/records.py",
        'received=_share(through_stripe, net, raw["total"]),',
        "received=through_stripe,",
        AHEAD,
    ),
)
