"""Routes of the door for clients of Replicate."""

from django.urls import path, re_path

from marketplace.api.doors import NoSuchRoute
from marketplace.api.replicate import catalogue_views, files_views, predictions_views

urlpatterns = [
    path("predictions", predictions_views.PredictionList.as_view()),
    path("predictions/<str:job_id>", predictions_views.PredictionDetail.as_view()),
    path("predictions/<str:job_id>/cancel", predictions_views.PredictionCancel.as_view()),
    path("streams/<str:token>", predictions_views.PredictionStream.as_view()),
    path("models", catalogue_views.ModelList.as_view()),
    path("models/<str:owner>/<str:name>", catalogue_views.ModelDetail.as_view()),
    path("models/<str:owner>/<str:name>/versions", catalogue_views.VersionList.as_view()),
    path(
        "models/<str:owner>/<str:name>/versions/<str:version_id>",
        catalogue_views.VersionDetail.as_view(),
    ),
    path("collections", catalogue_views.CollectionList.as_view()),
    path("collections/<str:slug>", catalogue_views.CollectionDetail.as_view()),
    path("hardware", catalogue_views.HardwareList.as_view()),
    path("account", catalogue_views.AccountDetail.as_view()),
    path("deployments", catalogue_views.NoDeployments.as_view()),
    path("files", files_views.FileList.as_view()),
    path("files/<str:file_id>", files_views.FileDetail.as_view()),
    path("files/<str:file_id>/download", files_views.FileDownload.as_view()),
    path("webhooks/default/secret", files_views.WebhookSecret.as_view()),
    path("models/<str:owner>/<str:name>/predictions", predictions_views.ModelPredictions.as_view()),
    path(
        "deployments/<str:owner>/<str:name>/predictions",
        predictions_views.DeploymentPredictions.as_view(),
    ),
    re_path(r"", NoSuchRoute.as_view()),
]
