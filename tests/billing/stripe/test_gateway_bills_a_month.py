"""A month of usage becomes one invoice, final when we say so, paid by the customer's card."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest

from billing.stripe.gateway import GatewayRefused, GatewayUnavailable, PaymentDeclined
from tests.stripe_receiver import receiving
from tests.stripe_standin import Handle
from tests.stripe_subscriber import subscriber

MILLION = 1_000_000


def test_price_and_subscription_are_made_once(standin: Handle) -> None:
    one = subscriber(standin)
    assert one.gateway.metered_price_ensure(one.meter) == one.price
    price = standin.call("GET", f"/v1/prices/{one.price}").json
    assert price["unit_amount_decimal"] == "0.0001"
    assert price["recurring"]["meter"] == one.meter
    again = one.gateway.subscription_ensure(one.customer, one.price, one.org_id)
    assert again == one.subscription


def test_a_subscription_ends_its_period_on_the_first_at_midnight_utc(standin: Handle) -> None:
    end = datetime.fromtimestamp(subscriber(standin).subscription.period_end, UTC)
    assert (end.day, end.hour, end.minute, end.second) == (1, 0, 0, 0)


@pytest.mark.parametrize("mode", ["drop_after", "drop_before"])
def test_a_lost_answer_makes_no_second_subscription(own_standin: Handle, mode: str) -> None:
    one = subscriber(own_standin)
    customer = one.gateway.customer_ensure(uuid.uuid4().hex, "Other", "o@example.com")
    own_standin.fault(mode, "/v1/subscriptions", times=None)
    with pytest.raises(GatewayUnavailable):
        one.gateway.subscription_ensure(customer, one.price, "org")
    own_standin.control("DELETE", "faults")
    made = one.gateway.subscription_ensure(customer, one.price, "org")
    rows = own_standin.call("GET", "/v1/subscriptions", {"customer": customer}).json["data"]
    assert [row["id"] for row in rows] == [made.id]


def test_the_preview_shows_what_was_used_and_the_invoice_repeats_it(own_standin: Handle) -> None:
    one = subscriber(own_standin)
    one.use(12 * MILLION)
    one.use(345_678)
    preview = one.gateway.invoice_preview(one.subscription.id)
    assert (preview.total, preview.subscription) == (1235, one.subscription.id)
    draft = one.close_period()
    assert draft.total == 1235
    assert draft.lines[0].quantity == 12_345_678
    assert draft.lines == one.gateway.invoice_lines(draft.id)
    assert one.gateway.invoice_preview(one.subscription.id).total == 0


def test_a_negative_event_takes_usage_back_and_a_negative_total_bills_nothing(
    standin: Handle,
) -> None:
    one = subscriber(standin)
    one.use(12 * MILLION)
    one.use(-2 * MILLION)
    assert one.gateway.invoice_preview(one.subscription.id).total == 1000
    one.use(-20 * MILLION)
    assert one.gateway.invoice_preview(one.subscription.id).total == 0


def test_usage_counts_in_the_period_of_its_timestamp_while_that_is_a_draft(
    own_standin: Handle,
) -> None:
    one = subscriber(own_standin)
    draft = one.close_period()
    one.use(3 * MILLION, at=draft.period_end - 1)
    one.use(5 * MILLION, at=draft.period_end)
    assert one.gateway.invoice_retrieve(draft.id).total == 300
    final = one.gateway.invoice_finalize(draft.id, collect=False)
    one.use(7 * MILLION, at=draft.period_end - 1)
    assert one.gateway.invoice_retrieve(draft.id).total == final.total == 300
    assert one.gateway.invoice_preview(one.subscription.id).total == 500


def test_a_draft_becomes_final_after_an_hour_unless_it_is_held(own_standin: Handle) -> None:
    one, other = subscriber(own_standin), subscriber(own_standin)
    one.use(MILLION)
    other.use(MILLION)
    draft = one.close_period()
    held = other.gateway.invoices_list(other.customer)[0]
    assert not other.gateway.invoice_hold(held.id).auto_advance
    one.go_to(draft.period_end + 3599)
    assert one.gateway.invoice_retrieve(draft.id).status == "draft"
    one.go_to(draft.period_end + 3600)
    assert one.gateway.invoice_retrieve(draft.id).status == "open"
    one.go_to(draft.period_end + 20 * 86400)
    assert other.gateway.invoice_retrieve(held.id).status == "draft"


def test_a_saved_card_pays_and_webhooks_tell(own_standin: Handle) -> None:
    one = subscriber(own_standin)
    one.card()
    one.use(5 * MILLION)
    with receiving() as receiver:
        receiver.subscribe(own_standin)
        draft = one.close_period()
        one.gateway.invoice_describe(draft.id, description="October", metadata={"close": "c1"})
        final = one.gateway.invoice_finalize(draft.id)
        assert (final.status, final.amount_paid, final.amount_remaining) == ("paid", 500, 0)
        assert final.metadata == {"close": "c1"}
        assert final.number
        assert one.gateway.invoice_finalize(draft.id) == final  # repeated: nothing new
        (intent,) = one.gateway.invoice_payments(draft.id)
        assert one.gateway.payment_intent_retrieve(intent).amount_received == 500
        receiver.wait(7)
        told = [name for name in receiver.types() if name.startswith("invoice.")]
        assert told == ["invoice.created", "invoice.updated", "invoice.finalized", "invoice.paid"]


def test_a_declined_card_leaves_the_invoice_open_until_another_pays(own_standin: Handle) -> None:
    one = subscriber(own_standin)
    one.card("pm_card_chargeCustomerFail")
    one.use(5 * MILLION)
    final = one.gateway.invoice_finalize(one.close_period().id)
    assert (final.status, final.amount_remaining) == ("open", 500)
    with pytest.raises(PaymentDeclined) as failure:
        one.gateway.invoice_pay(final.id)
    assert failure.value.decline_code == "generic_decline"
    good = one.card()
    paid = one.gateway.invoice_pay(final.id, payment_method=good)
    assert paid.status == "paid"
    assert one.gateway.invoice_pay(final.id) == paid


def test_without_a_card_the_invoice_stays_open_and_can_be_noted_as_paid(
    own_standin: Handle,
) -> None:
    one = subscriber(own_standin)
    one.use(5 * MILLION)
    final = one.gateway.invoice_finalize(one.close_period().id)
    assert final.status == "open"
    with pytest.raises(GatewayRefused, match="no default payment method"):
        one.gateway.invoice_pay(final.id)
    assert one.gateway.invoice_pay(final.id, paid_out_of_band=True).status == "paid"


def test_a_bill_is_paid_on_its_page(own_standin: Handle) -> None:
    one = subscriber(own_standin, days_until_due=30)
    one.use(5 * MILLION)
    final = one.gateway.invoice_finalize(one.close_period().id)
    assert final.status == "open"
    page = final.hosted_url.removeprefix(own_standin.url)
    assert own_standin.raw("POST", page, "{}").status == 200
    assert one.gateway.invoice_retrieve(final.id).status == "paid"


def test_a_line_of_ours_is_added_once(own_standin: Handle) -> None:
    one = subscriber(own_standin)
    one.use(5 * MILLION)
    draft = one.close_period()

    def add() -> str:
        return one.gateway.invoice_item_create(
            one.customer, draft.id, amount=-20, description="Rounding", item_id="line-1"
        )

    own_standin.fault("drop_after", "/v1/invoiceitems")
    with pytest.raises(GatewayUnavailable):
        add()
    assert add() == add()
    assert one.gateway.invoice_retrieve(draft.id).total == 480
    one.gateway.invoice_finalize(draft.id, collect=False)
    with pytest.raises(GatewayRefused, match="already finalized"):
        one.gateway.invoice_item_create(
            one.customer, draft.id, amount=5, description="Late", item_id="line-2"
        )


def test_an_open_invoice_can_be_declared_void(own_standin: Handle) -> None:
    one = subscriber(own_standin)
    one.use(5 * MILLION)
    draft = one.close_period()
    with pytest.raises(GatewayRefused, match="only void open"):
        one.gateway.invoice_void(draft.id)
    one.gateway.invoice_finalize(draft.id, collect=False)
    assert one.gateway.invoice_void(draft.id).status == "void"
    assert one.gateway.invoice_void(draft.id).status == "void"


def test_tax_is_added_where_it_is_on_and_the_customer_has_a_country(own_standin: Handle) -> None:
    one = subscriber(own_standin)
    own_standin.control("POST", "settings", {"tax_percent": 25})
    customer = one.gateway.customer_ensure(uuid.uuid4().hex, "Taxed", "t@example.com")

    def ensure() -> str:
        return one.gateway.subscription_ensure(customer, one.price, "taxed", automatic_tax=True).id

    with pytest.raises(GatewayRefused) as failure:
        ensure()
    assert failure.value.code == "customer_tax_location_invalid"
    one.gateway.customer_update(customer, address={"line1": "Gate 1", "country": "NO"})
    subscription = one.gateway.subscription_ensure(
        customer, one.price, "taxed", automatic_tax=True, attempt=1
    )
    one.customer = customer
    one.use(10 * MILLION)
    preview = one.gateway.invoice_preview(subscription.id)
    assert (preview.subtotal, preview.tax, preview.total) == (1000, 250, 1250)
    assert preview.tax_status == "complete"


def test_invoices_are_listed_by_when_they_were_made(own_standin: Handle) -> None:
    one = subscriber(own_standin)
    first = one.close_period()
    second = one.close_period()
    found = one.gateway.invoices_list(
        one.customer, created_from=first.period_end, created_before=second.period_end
    )
    assert [row.id for row in found] == [first.id]
    assert one.gateway.invoices_list(one.customer, status="void") == ()
    assert len(one.gateway.invoices_list(one.customer)) == 3
