"""Routes of the door for clients of OpenAI."""

from django.urls import path, re_path

from marketplace.api.doors import NoSuchRoute
from marketplace.api.openai import images_views, models_views, videos_views

urlpatterns = [
    path("images/generations", images_views.ImageGenerations.as_view()),
    path("images/generations/<str:job_id>", images_views.ImageAnswer.as_view()),
    path("images/generations/<str:job_id>/<str:form>", images_views.ImageAnswer.as_view()),
    path("images/edits", images_views.ImageEdits.as_view()),
    path("images/variations", images_views.ImageVariations.as_view()),
    path("videos", videos_views.VideoList.as_view()),
    path("videos/sync", videos_views.VideoSync.as_view()),
    re_path(r"^videos/(characters|edits|extensions)\b", videos_views.NoSuchVideos.as_view()),
    path("videos/<str:job_id>", videos_views.VideoDetail.as_view()),
    path("videos/<str:job_id>/content", videos_views.VideoContent.as_view()),
    path("videos/<str:job_id>/remix", videos_views.VideoRemix.as_view()),
    path("models", models_views.ModelList.as_view()),
    # A client may write the slash as %2F, which is the same path here.
    path("models/<str:vendor>/<str:name>", models_views.ModelDetail.as_view()),
    re_path(r"", NoSuchRoute.as_view()),
]
