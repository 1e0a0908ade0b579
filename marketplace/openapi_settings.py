"""How the description of the API is written: settings of drf-spectacular."""

from typing import Any

SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Mercato API",
    "DESCRIPTION": "Run generative-media models, know the price before, pay exactly that.",
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVERS": [{"url": "/", "description": "This installation"}],
    "SCHEMA_PATH_PREFIX": "/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "DeliveryKindEnum": ["job", "account"],
        "DeliveryStatusEnum": "marketplace.core.outbox.Delivery",
        "JobStatusEnum": "marketplace.jobs.models.JobStatus",
        "LicenceKindEnum": "marketplace.catalog.models.LicenceKind",
        "PayoutStateEnum": "billing.models.PayoutState",
        "StatementStatusEnum": "billing.models.StatementStatus",
        "TopUpStateEnum": "billing.models.TopUpState",
    },
}
