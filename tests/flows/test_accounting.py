"""What a run says that its captions cost."""

from flows.accounting import Account
from schemas.pricing import Price
from storage.store import ArtifactStore
from vip.captioning.ask_stats import AskStats

ASKED = [AskStats(requests=90, prompt_tokens=3_000_000, completion_tokens=500_000, seconds=1800.0), AskStats()]


def facts(store: ArtifactStore, asked: list[AskStats], price: Price) -> dict[str, str]:
    return Account().close(store, [], asked, price).facts


def test_the_price_of_the_config_is_what_captions_cost(tmp_path):
    store = ArtifactStore(tmp_path)
    price = Price(per_million_prompt=1.0, per_million_completion=4.0, per_hour=3.0)
    assert facts(store, ASKED, price)["cost of captions"] == "6.5"
    assert "cost of captions" not in facts(store, ASKED, Price())
    assert facts(store, [AskStats()], price) == {}
