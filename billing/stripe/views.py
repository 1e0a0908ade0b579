"""Where Stripe's webhooks come in: verify, store, say yes. The rest happens in the background."""

from typing import Any

import structlog
from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from billing.stripe.gateway import WebhookRefused
from billing.stripe.inbox import event_store
from billing.stripe.webhooks import SIGNATURE_HEADER
from inference import protocol

log = structlog.get_logger("mercato.billing.stripe")
BODY_MAX = 512 * 1024


def _refuse(status: int, code: str, message: str) -> JsonResponse:
    return JsonResponse({"error": {"code": code, "message": message}}, status=status)


@csrf_exempt
@require_POST
def webhook(request: HttpRequest) -> JsonResponse:
    """Store one event of Stripe's: 200 whether it is new or known, 400 if it is not Stripe's."""
    if not settings.STRIPE_WEBHOOK_SECRET:
        return _refuse(503, "not_configured", "STRIPE_WEBHOOK_SECRET is not set here.")
    declared = request.headers.get("Content-Length", "")
    if declared.isdecimal() and int(declared) > BODY_MAX:
        return _refuse(413, "too_large", f"More than {BODY_MAX} bytes.")
    body = request.read(BODY_MAX + 1)
    if len(body) > BODY_MAX:
        return _refuse(413, "too_large", f"More than {BODY_MAX} bytes.")
    try:
        event_id = event_store(
            body, request.headers.get(SIGNATURE_HEADER), settings.STRIPE_WEBHOOK_SECRET
        )
    except WebhookRefused as error:
        log.warning("webhook refused", reason=str(error)[:300])
        return _refuse(400, "refused", str(error))
    _nudge()
    return JsonResponse({"received": event_id})


def _nudge() -> None:
    """Have the event processed now rather than at the next beat. The broker may be away."""
    from billing.tasks import process_stripe_events

    task: Any = process_stripe_events
    try:
        task.apply_async(queue=protocol.QUEUE_OUTBOUND, retry=False, ignore_result=True)
    except Exception as error:  # whatever the broker's client raises, beat will do it
        log.warning("nudge failed", error=repr(error)[:300])
