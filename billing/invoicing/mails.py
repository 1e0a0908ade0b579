"""Tells an organisation that an invoice was issued: one mail each, with the links to it."""

from functools import partial

from django.conf import settings
from django.core.mail import send_mail
from django.template.loader import render_to_string

from billing.customers import email_of
from billing.mail import MailServerAway, Outcome, mail_try
from billing.models import Invoice
from marketplace.core.clock import now


def invoices_mail(limit: int = 200) -> int:
    """Mail issued invoices that were not mailed. Returns how many.

    Each is marked before its mail goes: a crash between the two loses a mail, and the invoice
    is on its page; the other order would repeat mails. One that is refused waits alone, and is
    given up after three days.
    """
    due = Invoice.objects.filter(mailed_at__isnull=True, issued_at__isnull=False)
    sent = 0
    for invoice in due.select_related("org").order_by("issued_at").iterator():
        if sent >= limit:
            break
        if not Invoice.objects.filter(pk=invoice.pk, mailed_at__isnull=True).update(
            mailed_at=now()
        ):
            continue
        address = invoice.bill_to.get("email") or email_of(invoice.org)
        if not address:
            continue
        try:
            outcome = mail_try(f"invoice:{invoice.pk}", partial(_mail, invoice, address))
        except MailServerAway:
            Invoice.objects.filter(pk=invoice.pk).update(mailed_at=None)
            return sent
        if outcome is Outcome.LATER:
            Invoice.objects.filter(pk=invoice.pk).update(mailed_at=None)
        sent += outcome is Outcome.SENT
    return sent


def _mail(invoice: Invoice, address: str) -> None:
    context = {
        "invoice": invoice,
        "due_nano": invoice.due_cents * 10_000_000,
        "site_name": settings.SITE_NAME,
        "url": f"{settings.PUBLIC_URL}/dashboard/invoices/{invoice.pk}/",
    }
    send_mail(
        f"Invoice {invoice.number} for {invoice.month:%B %Y}",
        render_to_string("invoices/mail.txt", context),
        None,
        [address],
    )
