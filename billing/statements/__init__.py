"""What vendors earned, month by month: one set of queries for the preview and for the close."""
