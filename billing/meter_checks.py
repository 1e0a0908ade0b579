"""Compares what Stripe counted with what it was told; decides batches whose fate is unknown."""

import uuid
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import structlog
from django.db.models import Max, Min, Q, Sum
from django.db.models.functions import TruncHour

from billing.customers import gateway_shared
from billing.invariants import incident_open
from billing.meters import meter_id
from billing.models import Funding, MeterBatch, MeterHour, Wallet
from billing.stripe.gateway import GatewayError, MeterFailure, StripeGateway
from marketplace.core.clock import now
