"""Routes of the whole control plane."""

from django.urls import include, path
from django.views.decorators.http import require_POST
from drf_spectacular.views import SpectacularAPIView
from hijack.views import ReleaseUserView

from billing.stripe.views import webhook
from marketplace.console.acting import ActAs
from marketplace.console.reports import report
from marketplace.console.site import console
from marketplace.core import views

acting_urls = [
    path("begin/", ActAs.as_view(), name="acquire"),
    path("stop/", require_POST(ReleaseUserView.as_view()), name="release"),
]
urlpatterns = [
    path("healthz", views.healthz),
    path("readyz", views.readyz),
    path("metrics", views.metrics),
    path("files/<str:token>", views.file, name="file"),
    path("v1/", include("marketplace.api.v1.urls")),
    path(
        "v1/openapi.yaml",
        SpectacularAPIView.as_view(authentication_classes=[], permission_classes=[]),
        name="openapi",
    ),
    path("replicate/v1/", include("marketplace.api.replicate.urls")),
    path("fal/", include("marketplace.api.fal.urls")),
    path("openai/v1/", include("marketplace.api.openai.urls")),
    path("stripe/webhook", webhook, name="stripe-webhook"),
    path("console/", console.urls),
    path("report/", report, name="report"),
    path("acting/", include((acting_urls, "hijack"))),
    path("accounts/", include("allauth.urls")),
    path("", include("marketplace.dashboard.urls")),
]

handler400 = "marketplace.fallback.bad_request"
handler404 = "marketplace.fallback.not_found"
handler500 = "marketplace.fallback.server_error"
