"""Routes of the door for clients of Replicate."""

from django.urls import path, re_path

from marketplace.api.doors import NoSuchRoute
from marketplace.api.replicate import catalogue_views, files_views, predictions_views

urlpatterns = [
    path("predictions", predictions_views.PredictionList.as_view()),
    path("predictions/<str:job_id>", predictions_views.PredictionDetail.as_view()),
    path("predictions/<str:job_id>/cancel", predictions_views.PredictionCancel.as_view()),
    path("streams/<str:token>", predictions_views.PredictionStream.as_view()),
    path("models/<str:owner>/<str:name>/predictions", predictions_views.ModelPredictions.as_view()),
    path(
        "deployments/<str:owner>/<str:name>/predictions",
        predictions_views.DeploymentPredictions.as_view(),
    ),
    re_path(r"", NoSuchRoute.as_view()),
]
