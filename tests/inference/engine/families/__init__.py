"""Each family against the stock pipelines."""
