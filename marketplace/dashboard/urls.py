"""Routes of the pages."""

from django.urls import path
from django.views.generic import RedirectView

from marketplace.dashboard.views import (
    budgets,
    developer,
    docs,
    gallery,
    invoices,
    payments,
    payouts,
    public,
    team,
    terms,
    vendor,
)

_MODEL = "models/<slug:vendor>/<str:name>/"
_VERSION = "vendor/models/<str:name>/versions/<int:number>/"
_STATEMENT = "vendor/statements/<uuid:statement_id>"

urlpatterns = [
    path("", gallery.gallery, name="gallery"),
    path(_MODEL, public.model, name="model"),
    path(f"{_MODEL}quote/", public.quote, name="model-quote"),
    path(f"{_MODEL}run/", public.run, name="model-run"),
    path("licences/<uuid:licence_id>/accept/", terms.licence_accept, name="licence-accept"),
    path("vendors/<slug:slug>/", gallery.vendor, name="vendor-profile"),
    path("pricing/", gallery.pricing, name="pricing"),
    path("docs/", docs.index, name="docs"),
    path("docs/api/", docs.reference, name="docs-api"),
    path("docs/<slug:slug>/", docs.page, name="doc"),
    path("dashboard/", developer.overview, name="dashboard"),
    path("dashboard/jobs/", developer.job_list, name="jobs"),
    path("dashboard/jobs/<uuid:job_id>/", developer.job, name="job"),
    path("dashboard/jobs/<uuid:job_id>/cancel/", developer.job_stop, name="job-cancel"),
    path("dashboard/keys/", developer.keys, name="keys"),
    path("dashboard/keys/<uuid:key_id>/revoke/", developer.key_revoke, name="key-revoke"),
    path("dashboard/usage/", developer.usage, name="usage"),
    path("dashboard/billing/", developer.billing_page, name="billing"),
    path("dashboard/invoices/", invoices.invoices, name="invoices"),
    path("dashboard/invoices/preview/", invoices.preview, name="invoice-preview"),
    path("dashboard/invoices/preview.csv", invoices.preview_csv, name="invoice-preview-csv"),
    path("dashboard/invoices/<uuid:invoice_id>/", invoices.invoice, name="invoice"),
    path("dashboard/invoices/<uuid:invoice_id>.pdf", invoices.invoice_pdf, name="invoice-pdf"),
    path("dashboard/invoices/<uuid:invoice_id>.csv", invoices.invoice_csv, name="invoice-csv"),
    path(
        "dashboard/credit-notes/<uuid:note_id>.pdf",
        invoices.credit_note_pdf,
        name="credit-note-pdf",
    ),
    path("dashboard/billing/top-ups/", payments.top_up_create, name="top-up-create"),
    path("dashboard/billing/top-ups/<uuid:top_up_id>/", payments.top_up, name="top-up"),
    path("dashboard/billing/profile/", payments.profile, name="billing-profile"),
    path("dashboard/billing/recharge/", payments.recharge_page, name="recharge"),
    path("dashboard/billing/card/", payments.card, name="card"),
    path("dashboard/billing/code/", terms.promotion_redeem, name="promotion-redeem"),
    path("dashboard/budgets/", budgets.budgets, name="budgets"),
    path(
        "dashboard/budgets/organisation/", budgets.organisation_budget, name="budget-organisation"
    ),
    path("dashboard/budgets/balance/", budgets.balance_alert, name="balance-alert"),
    path("dashboard/budgets/<uuid:project_id>/", budgets.project_update, name="project"),
    path(
        "dashboard/budgets/<uuid:project_id>/archive/",
        budgets.project_archive,
        name="project-archive",
    ),
    path("dashboard/team/", team.team, name="team"),
    path("dashboard/team/<int:membership_id>/role/", team.member_role, name="member-role"),
    path("dashboard/team/<int:membership_id>/remove/", team.member_remove, name="member-remove"),
    path("dashboard/invitations/<str:token>/", team.invitation, name="invitation"),
    path("dashboard/organisations/new/", team.organisation_create, name="organisation-create"),
    path("dashboard/switch/", team.switch, name="organisation-switch"),
    path("dashboard/settings/", team.settings, name="settings"),
    path("dashboard/settings/webhook/", budgets.webhook, name="account-webhook"),
    path("vendor/", vendor.models, name="vendor-models"),
    path("vendor/models/", RedirectView.as_view(pattern_name="vendor-models")),
    path("vendor/models/new/", vendor.model_create, name="vendor-model-create"),
    path("vendor/models/<str:name>/", vendor.model, name="vendor-model"),
    path(
        "vendor/models/<str:name>/versions/new/",
        vendor.version_create,
        name="vendor-version-create",
    ),
    path(_VERSION, vendor.version, name="vendor-version"),
    path(f"{_VERSION}price/", vendor.price_set, name="vendor-price"),
    path(f"{_VERSION}price/<slug:slug>/withdraw/", vendor.price_withdraw, name="price-withdraw"),
    path(f"{_VERSION}submit/", vendor.version_submit, name="vendor-submit"),
    path("vendor/licences/", vendor.licences, name="vendor-licences"),
    path("vendor/earnings/", vendor.earnings, name="vendor-earnings"),
    path(f"{_STATEMENT}/", payouts.statement, name="vendor-statement"),
    path(f"{_STATEMENT}.csv", payouts.statement_csv, name="vendor-statement-csv"),
    path(f"{_STATEMENT}.pdf", payouts.statement_pdf, name="vendor-statement-pdf"),
    path("vendor/payouts/", payouts.account, name="vendor-payouts"),
    path("vendor/payouts/connect/", payouts.connect_begin, name="vendor-connect"),
]
