"""What a run says of its work and of what its captions cost."""

import tracemalloc

from flows.accounting import Account
from schemas.manifest import Recipe
from schemas.pricing import Price
from storage.store import ArtifactStore
from vip.captioning.ask_stats import AskStats

ASKED = [AskStats(requests=90, prompt_tokens=3_000_000, completion_tokens=500_000, seconds=1800.0), AskStats()]


def facts(store: ArtifactStore, asked: list[AskStats], price: Price) -> dict[str, str]:
    return Account().close(store, [], None, asked, price).facts


def test_the_price_of_the_config_is_what_captions_cost(tmp_path):
    store = ArtifactStore(tmp_path)
    price = Price(per_million_prompt=1.0, per_million_completion=4.0, per_hour=3.0)
    assert facts(store, ASKED, price)["cost of captions"] == "6.5"
    assert "cost of captions" not in facts(store, ASKED, Price())
    assert facts(store, [AskStats()], price) == {}


def exam(store: ArtifactStore, name: str):
    """Captions, a checkpoint of 200 steps and its evaluation, made by the run of ``store``."""

    def build(kind, inputs=None, **stats):
        def write(folder):
            (folder / "file").write_text(kind + name)
            return stats

        recipe = Recipe(kind=kind, stage="test", params={"name": name}, inputs=inputs or {})
        return store.build(recipe, write)[0].ref

    captions = build("captions")
    gate = build("gate", {"captions": captions})
    checkpoint = build("checkpoint", {"captions": captions}, steps=200, resumed_from=0)
    samples = build("samples", {"checkpoint": checkpoint}, images=5)
    evaluation = build("evaluation", {"checkpoint": checkpoint, "samples/oracle/0": samples})
    return build, gate, evaluation


def test_the_work_of_the_promoted_checkpoint_is_not_that_of_the_run(tmp_path):
    incumbent = exam(ArtifactStore(tmp_path, run_id="old"), "old")[2]
    store = ArtifactStore(tmp_path, run_id="new")
    build, gate, evaluation = exam(store, "new")
    inputs = {"evaluation": evaluation, "incumbent": incumbent}
    promotion = build("promotion", inputs, promoted=True, reasons=["kid better"])
    account = Account()
    for stage in ("caption", "train", "evaluate", "promote"):
        with account.stage(stage):
            pass
    stages = account.close(store, [gate, evaluation], promotion, [], Price()).stages
    assert {one.name: (one.made, one.reused, one.note) for one in stages} == {
        "caption": (1, 0, "0 requests"),
        "train": (1, 0, "200 steps"),
        "evaluate": (2, 0, "5 pictures"),
        "promote": (1, 0, "promoted: kid better"),
    }


def test_the_summary_of_a_run_keeps_no_manifest_of_a_shard(tmp_path):
    store = ArtifactStore(tmp_path)

    def build(kind, inputs=None, **params):
        recipe = Recipe(kind=kind, stage="test", params=params, inputs=inputs or {})
        stats = {"samples": 1, "rejected": 0, "note": "x" * 20_000}
        return store.build(recipe, lambda folder: (folder / "file").write_text(str(params)) and stats)[0].ref

    dataset = build("dataset", {f"shard/{number}": build("shard", number=number) for number in range(100)})
    account = Account()
    with account.stage("shard"):
        pass
    tracemalloc.start()
    try:
        (stage,) = account.close(store, [dataset], None, [], Price()).stages
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (stage.made, stage.reused, stage.note) == (101, 0, "1 images, 0 rejected")
    assert peak < 1_000_000
