"""A job whose message was lost on the way to the GPU queue is sent again."""

from tests.e2e.world import QUEUE, World


def test_the_sweeper_sends_a_lost_message_again(market: World):
    market.pause("worker-gpu")
    # A frozen worker may still be handed one message, until its request to the broker times out.
    sent: list[str] = []

    def in_queue() -> bool:
        sent.append(market.submit())
        return bool(market.valkey.llen(QUEUE))

    market.until("a message waits in the queue", in_queue)
    lost = sent[-1]
    assert market.valkey.delete(QUEUE) == 1
    market.resume("worker-gpu")

    for job in sent:
        row = market.until_ended(job)
        assert (row["status"], row["attempt"]) == ("succeeded", 1)
        market.assert_charged_once(job, 100_000)
    assert market.row(lost)["dispatches"] >= 1
