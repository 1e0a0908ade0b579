"""The commands of `python -m inference`, where one fills a screen or more."""
