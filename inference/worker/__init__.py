"""The Celery side of the GPU plane: takes a message, runs the engine, uploads, answers."""
