"""The life of a job: submit, dispatch, progress, end, webhook."""
