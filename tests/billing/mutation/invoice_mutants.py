"""Bugs that the collection of invoices must not have."""

from tests.billing.mutation.mutant import Mutant

PAYMENT = "billing/invoicing/payment.py"
COLLECTED = ("tests/billing/invoicing/test_stripe_collects_what_we_invoice.py",)

INVOICE_MUTANTS = (
    Mutant(
        "prepaid money pays what Stripe is collecting",
        PAYMENT,
        "if locked.stripe_finalized_at or not cents or not",
        "if not cents or not",
        COLLECTED,
    ),
    Mutant(
        "what was collected beyond the debt is forgotten",
        PAYMENT,
        "    if excess <= 0:\n",
        "    if excess:\n",
        COLLECTED,
    ),
)
