"""Routes of the door for clients of fal."""

from django.urls import path, re_path

from marketplace.api.doors import NoSuchRoute
from marketplace.api.fal import cdn_views, queue_views, rest_views, run_views, stream_views

_MODEL = "<str:owner>/<str:alias>"
_REQUEST = f"queue/{_MODEL}/requests/<str:request_id>"
_PLACE = "cdn/files/<str:file_id>/multipart/<str:token>"

urlpatterns = [
    # What follows a model's name is one of these words or a version of it.
    path(f"run/{_MODEL}/stream", stream_views.Stream.as_view()),
    path(f"run/{_MODEL}/<str:sub>/stream", stream_views.Stream.as_view()),
    path(f"run/{_MODEL}/realtime", stream_views.Realtime.as_view()),
    path(f"run/{_MODEL}/<str:sub>/realtime", stream_views.Realtime.as_view()),
    path(f"run/{_MODEL}", run_views.Run.as_view()),
    path(f"run/{_MODEL}/<path:sub>", run_views.Run.as_view()),
    path(_REQUEST, queue_views.Result.as_view()),
    path(f"{_REQUEST}/status", queue_views.Status.as_view()),
    path(f"{_REQUEST}/status/stream", stream_views.StatusStream.as_view()),
    path(f"{_REQUEST}/cancel", queue_views.Cancel.as_view()),
    path(f"queue/{_MODEL}", queue_views.Submit.as_view()),
    path(f"queue/{_MODEL}/<path:sub>", queue_views.Submit.as_view()),
    path("rest/.well-known/jwks.json", rest_views.Keys.as_view()),
    path("rest/tokens/", rest_views.Tokens.as_view()),
    path("rest/storage/auth/token", rest_views.UploadToken.as_view()),
    path("rest/storage/upload/initiate", rest_views.Initiate.as_view()),
    path("rest/storage/upload/initiate-multipart", rest_views.Initiate.as_view(way="multipart")),
    path("cdn/files/upload", cdn_views.Upload.as_view()),
    path("cdn/files/upload/multipart", cdn_views.MultipartCreate.as_view()),
    path("cdn/files/<str:file_id>/content/<str:token>", cdn_views.Content.as_view()),
    path(f"{_PLACE}/complete", cdn_views.Complete.as_view()),
    path(f"{_PLACE}/<int:number>", cdn_views.Part.as_view()),
    path("cdn/files/<str:file_id>", cdn_views.Access.as_view()),
    re_path(r"", NoSuchRoute.as_view()),
]
