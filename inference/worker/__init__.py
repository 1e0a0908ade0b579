"""The GPU plane's Celery worker: takes a job's message, makes media, uploads it, answers.

Start it with `python -m inference worker`, or with
`celery -A inference.worker worker --pool=threads --concurrency=4 -Q gpu.small`.
"""
