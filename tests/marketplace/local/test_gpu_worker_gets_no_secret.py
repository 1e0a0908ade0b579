"""The environment of a GPU worker holds what it needs and nothing that opens anything else."""

from __future__ import annotations

from marketplace.local.environment import worker_environment


def test_secrets_and_the_database_stay_behind() -> None:
    needed = {
        "BROKER_URL": "redis://127.0.0.1:1/0",
        "VALKEY_URL": "redis://127.0.0.1:1/0",
        "WORKER_SLOTS": "4",
        "PATH": "/bin",
        "HOME": "/home/me",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "2",
        "CUDA_VISIBLE_DEVICES": "0",
    }
    withheld = (
        *("DATABASE_URL", "SECRET_KEY", "STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET"),
        *("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "EMAIL_URL"),
        *("PGPASSWORD", "DJANGO_SETTINGS_MODULE", "GITHUB_TOKEN", "HF_TOKEN"),
    )
    assert worker_environment(needed | dict.fromkeys(withheld, "secret")) == needed
