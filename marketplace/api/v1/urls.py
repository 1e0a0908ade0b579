"""Routes of API v1."""

from django.urls import path

from marketplace.api.v1 import (
    account_views,
    billing_views,
    budget_views,
    invoices_views,
    jobs_views,
    licences_views,
    models_views,
    vendor_views,
)

urlpatterns = [
    path("models", models_views.ModelList.as_view()),
    path("models/<str:vendor>/<str:name>", models_views.ModelDetail.as_view()),
    path("models/<str:vendor>/<str:name>/versions", models_views.VersionList.as_view()),
    path("models/<str:vendor>/<str:name>/quote", models_views.Quote.as_view()),
    path("licences/<str:licence_id>", licences_views.LicenceDetail.as_view()),
    path("licences/<str:licence_id>/accept", licences_views.LicenceAccept.as_view()),
    path("jobs", jobs_views.JobList.as_view()),
    path("jobs/<str:job_id>", jobs_views.JobDetail.as_view()),
    path("jobs/<str:job_id>/cancel", jobs_views.JobCancel.as_view()),
    path("jobs/<str:job_id>/preview", jobs_views.JobPreview.as_view()),
    path("jobs/<str:job_id>/events", jobs_views.JobEvents.as_view()),
    path("files", account_views.FileList.as_view()),
    path("files/<str:file_id>", account_views.FileDetail.as_view()),
    path("usage", account_views.Usage.as_view()),
    path("earnings", account_views.Earnings.as_view()),
    path("vendor/statements", vendor_views.StatementList.as_view()),
    path("vendor/statements/preview", vendor_views.StatementPreview.as_view()),
    path("vendor/statements/<str:statement_id>.csv", vendor_views.StatementCsv.as_view()),
    path("vendor/statements/<str:statement_id>", vendor_views.StatementDetail.as_view()),
    path("billing/invoices", invoices_views.InvoiceList.as_view()),
    path("billing/invoices/preview", invoices_views.InvoicePreview.as_view()),
    path("billing/invoices/<str:invoice_id>.csv", invoices_views.InvoiceCsv.as_view()),
    path("billing/invoices/<str:invoice_id>", invoices_views.InvoiceDetail.as_view()),
    path("balance", budget_views.BalanceDetail.as_view()),
    path("projects", budget_views.ProjectList.as_view()),
    path("projects/<str:project_id>", budget_views.ProjectDetail.as_view()),
    path("billing/top-ups", billing_views.TopUpList.as_view()),
    path("billing/top-ups/<str:top_up_id>", billing_views.TopUpDetail.as_view()),
    path("billing/profile", billing_views.Profile.as_view()),
    path("billing/recharge", billing_views.Recharge.as_view()),
    path("keys", account_views.KeyList.as_view()),
    path("keys/<str:key_id>", account_views.KeyDetail.as_view()),
]
