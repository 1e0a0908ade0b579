"""Routes of the whole control plane."""

from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView

from billing.stripe.views import webhook
from marketplace.console.site import console
from marketplace.core import views

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
    path("stripe/webhook", webhook, name="stripe-webhook"),
    path("console/", console.urls),
    path("accounts/", include("allauth.urls")),
    path("", include("marketplace.dashboard.urls")),
]

handler404 = "marketplace.fallback.not_found"
handler500 = "marketplace.fallback.server_error"
