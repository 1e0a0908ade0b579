"""Connect: vendors' accounts (v2), their onboarding, transfers to them and payouts of theirs."""

from __future__ import annotations

from marketplace.local.stripe_standin import charging
from marketplace.local.stripe_standin.calls import (
    Body,
    Call,
    get_object,
    list_objects,
    merge_metadata,
    paginate,
    refuse_unsupported,
)
from marketplace.local.stripe_standin.errors import ApiError, resource_missing
from marketplace.local.stripe_standin.work import Work, rfc3339

LINK_LASTS_S = 600
_HIDDEN = ("configuration", "defaults", "future_requirements", "identity", "requirements")
_WANTED = ("external_account", "identity.individual", "identity.attestations.terms_of_service")
CAPABILITY_EVENT = "v2.core.account[configuration.recipient].capability_status_updated"
REQUIREMENTS_EVENT = "v2.core.account[requirements].updated"


def account_create(call: Call) -> Body:
    """POST /v2/core/accounts: a recipient whose capabilities wait for the onboarding."""
    work, params = call.work, call.params
    asked = params.get("configuration", {}).get("recipient", {}).get("capabilities", {})
    wanted = asked.get("stripe_balance", {}).get("stripe_transfers", {}).get("requested")
    if not wanted:
        raise ApiError(
            "The Stripe stand-in carries accounts that ask for configuration.recipient."
            "capabilities.stripe_balance.stripe_transfers only.",
            param="configuration",
        )
    if not params.get("identity", {}).get("country"):
        raise ApiError("identity.country is required.", param="identity.country")
    account: Body = {
        "id": work.store.new_id("acct"),
        "object": "v2.core.account",
        "applied_configurations": ["recipient"],
        "closed": False,
        "configuration": {"recipient": _recipient("restricted")},
        "contact_email": params.get("contact_email"),
        "created": rfc3339(work.now()),
        "dashboard": params.get("dashboard"),
        "defaults": {
            "currency": "usd",
            "responsibilities": {
                **params.get("defaults", {}).get("responsibilities", {}),
                "requirements_collector": "stripe",
            },
        },
        "display_name": params.get("display_name"),
        "identity": {"country": params["identity"]["country"].upper()},
        "livemode": False,
        "metadata": dict(params.get("metadata", {})),
        "requirements": _requirements(_WANTED),
    }
    account = {key: value for key, value in account.items() if value is not None}
    work.put(account)
    return _shown(account, set())


def _recipient(status: str) -> Body:
    details = [{"code": "requirements_past_due", "resolution": "provide_info"}]
    state: Body = {"status": status, "status_details": [] if status == "active" else details}
    balance = {"payouts": state, "stripe_transfers": dict(state)}
    return {"applied": True, "capabilities": {"stripe_balance": balance}}


def _requirements(wanted: tuple[str, ...]) -> Body:
    deadline = {"status": "currently_due"}
    entries = [
        {
            "awaiting_action_from": "user",
            "description": name,
            "errors": [],
            "impact": {
                "restricts_capabilities": [
                    {
                        "capability": "stripe_balance.stripe_transfers",
                        "configuration": "recipient",
                        "deadline": deadline,
                    }
                ]
            },
            "minimum_deadline": deadline,
            "requested_reasons": [{"code": "routine_onboarding"}],
        }
        for name in wanted
    ]
    summary = {"summary": {"minimum_deadline": deadline}} if wanted else {}
    return {"entries": entries, **summary}


def account_retrieve(call: Call) -> Body:
    """GET /v2/core/accounts/{id}; what is not in `include` is left out."""
    account = call.work.get("v2.core.account", call.path_params["id"])
    return _shown(account, set(call.params.get("include", [])))


def _shown(account: Body, include: set[str]) -> Body:
    shown = {key: value for key, value in account.items() if key not in _HIDDEN}
    for name in include:
        top, _, part = name.partition(".")
        if part and part in account.get(top, {}):
            shown.setdefault(top, {})[part] = account[top][part]
        elif not part and top in account:
            shown[top] = account[top]
    return shown


def account_link_create(call: Call) -> Body:
    """POST /v2/core/account_links: the address of the onboarding page, good once."""
    work, params = call.work, call.params
    account = work.get("v2.core.account", params["account"], "account")
    use_case = params["use_case"]
    options = use_case.get(use_case["type"])
    if options is None:
        raise ApiError(f"use_case.{use_case['type']} is required.", param="use_case")
    link = work.store.new_id("link")
    expires = work.now() + LINK_LASTS_S
    work.put(
        {
            "object": "_account_link",
            "id": link,
            "account": account["id"],
            "expires_at": expires,
            "refresh_url": options["refresh_url"],
            "return_url": options.get("return_url", ""),
            "used": False,
        }
    )
    return {
        "object": "v2.core.account_link",
        "account": account["id"],
        "created": rfc3339(work.now()),
        "expires_at": rfc3339(expires),
        "livemode": False,
        "url": f"{work.base}/_standin/onboard/{link}",
        "use_case": use_case,
    }


def onboard(work: Work, account_id: str) -> Body:
    """Give Stripe all that it wants of an account: transfers to it become possible."""
    return set_state(work, account_id, "active", ())


def set_state(work: Work, account_id: str, status: str, wanted: tuple[str, ...]) -> Body:
    """Set an account's capability to receive transfers and what Stripe still wants."""
    account = work.get("v2.core.account", account_id)
    account["configuration"]["recipient"] = _recipient(status)
    account["requirements"] = _requirements(wanted)
    work.put(account)
    related = {
        "id": account_id,
        "type": "v2.core.account",
        "url": f"/v2/core/accounts/{account_id}",
    }
    work.emit_thin(
        CAPABILITY_EVENT, related, {"updated_capability": "stripe_balance.stripe_transfers"}
    )
    work.emit_thin(REQUIREMENTS_EVENT, related, {})
    return account


def transfer_create(call: Call) -> Body:
    """POST /v1/transfers, up to the available balance, or up to one charge."""
    work, params = call.work, call.params
    refuse_unsupported(set(params) & {"source_type"})
    account = work.get("v2.core.account", params["destination"], "destination")
    state = account["configuration"]["recipient"]["capabilities"]["stripe_balance"]
    if state["stripe_transfers"]["status"] != "active":
        raise ApiError(
            "Your destination account needs to have at least one of the following capabilities "
            "enabled: transfers, crypto_transfers, legacy_payments",
            code="insufficient_capabilities_for_transfer",
            stored=True,
        )
    amount = params.get("amount", 0)
    if amount <= 0:
        raise ApiError("Invalid positive integer", param="amount")
    _check_funds(work, amount, params.get("source_transaction"))
    transfer = work.make(
        "transfer",
        "tr",
        amount=amount,
        amount_reversed=0,
        currency=params["currency"].lower(),
        description=params.get("description"),
        destination=account["id"],
        destination_payment=work.store.new_id("py"),
        metadata=merge_metadata({}, params),
        reversed=False,
        source_transaction=params.get("source_transaction"),
        source_type="card",
        transfer_group=params.get("transfer_group"),
    )
    transfer["reversals"] = _reversals(transfer["id"], [])
    transfer["balance_transaction"] = charging.move(work, "transfer", -amount, transfer["id"])["id"]
    work.put(transfer)
    work.emit("transfer.created", transfer)
    return transfer


def _check_funds(work: Work, amount: int, source: str | None) -> None:
    if source is not None:
        charge = work.get("charge", source, "source_transaction")
        room = charge["amount"] - charge["amount_refunded"]
    else:
        room = charging.available(work)
    if amount > room:
        raise ApiError(
            "You have insufficient available funds in your Stripe account. Try adding funds "
            "directly to your available balance by creating Charges using the "
            "4000000000000077 test card.",
            code="balance_insufficient",
            stored=True,
        )


def _reversals(transfer_id: str, rows: list[Body]) -> Body:
    url = f"/v1/transfers/{transfer_id}/reversals"
    return {"object": "list", "data": rows, "has_more": False, "total_count": len(rows), "url": url}


def transfer_retrieve(call: Call) -> Body:
    """GET /v1/transfers/{transfer}."""
    return get_object(call, "transfer", "transfer")


def transfer_list(call: Call) -> Body:
    """GET /v1/transfers, by `transfer_group`, `destination`, `created`."""
    return list_objects(call, "transfer", "transfer", equal=("transfer_group", "destination"))


def reversal_create(call: Call) -> Body:
    """POST /v1/transfers/{id}/reversals: all that is left, or part of it."""
    work, params = call.work, call.params
    refuse_unsupported(set(params) & {"refund_application_fee"})
    transfer = work.get("transfer", call.path_params["id"])
    left = transfer["amount"] - transfer["amount_reversed"]
    amount = params.get("amount", left)
    if not 0 < amount <= left:
        raise ApiError(
            f"Reversal amount ({amount}) is greater than the amount left on the transfer ({left}).",
            param="amount",
            stored=True,
        )
    reversal = work.make(
        "transfer_reversal",
        "trr",
        amount=amount,
        currency=transfer["currency"],
        metadata=merge_metadata({}, params),
        transfer=transfer["id"],
    )
    del reversal["livemode"]
    moved = charging.move(work, "transfer_refund", amount, reversal["id"])
    reversal["balance_transaction"] = moved["id"]
    work.put(reversal)
    rows = [reversal, *transfer["reversals"]["data"]]
    transfer |= {
        "amount_reversed": transfer["amount_reversed"] + amount,
        "reversals": _reversals(transfer["id"], rows),
        "reversed": amount == left,
    }
    work.put(transfer)
    work.emit("transfer.reversed", transfer)
    return reversal


def reversal_list(call: Call) -> Body:
    """GET /v1/transfers/{id}/reversals."""
    transfer = get_object(call, "transfer", "id")
    rows = transfer["reversals"]["data"]
    return paginate(rows, call.params, url=call.path, word="transfer_reversal")


def payout(work: Work, account_id: str, amount: int, *, failed: bool) -> Body:
    """Let an account pay out to its bank; with `failed` the bank refuses it."""
    work.get("v2.core.account", account_id, "account")
    made = work.make(
        "payout",
        "po",
        amount=amount,
        arrival_date=work.now(),
        automatic=True,
        currency="usd",
        metadata={},
        method="standard",
        reconciliation_status="completed",
        source_type="card",
        status="failed" if failed else "paid",
        type="bank_account",
    )
    if failed:
        made |= {
            "failure_code": "account_closed",
            "failure_message": "The bank account has been closed",
        }
    work.put(made)
    work.put({"object": "_payout", "id": made["id"], "account": account_id})
    work.emit("payout.failed" if failed else "payout.paid", made, account=account_id)
    return made


def payout_retrieve(call: Call) -> Body:
    """GET /v1/payouts/{payout} of the account that the header Stripe-Account names."""
    id_ = call.path_params["payout"]
    owner = call.work.find("_payout", id_)
    if owner is None or owner["account"] != call.account:
        raise resource_missing("payout", id_, param="payout")
    return call.work.get("payout", id_)
