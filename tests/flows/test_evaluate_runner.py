"""The runner of a config is the one that samples and takes features."""

import pytest

from flows.evaluate import evaluate_run
from flows.promote import promote
from schemas.evaluate_config import EvaluateConfig
from schemas.evaluate_run import EvaluateRun
from schemas.manifest import Recipe
from schemas.promotion import PromotionRules
from schemas.runner import Runner
from storage.refs import Refs
from storage.store import ArtifactStore

RUNNER = Runner(kind="dask", workers=4)


class Asked(Exception):
    pass


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path)


@pytest.fixture
def refs(store):
    made = {}
    for kind, inputs in (("checkpoint", ()), ("dataset", ()), ("caption_set", ()), ("evaluation", ("checkpoint",))):
        recipe = Recipe(kind=kind, stage="test", inputs={name: made[name] for name in inputs})
        made[kind] = store.build(recipe, lambda folder: (folder / "file").write_text("it") and {})[0].ref
        Refs(store.backend).set(f"{'captions' if kind == 'caption_set' else kind}/it", made[kind])
    return made


def asks(monkeypatch, module, store):
    def evaluate(*arguments):
        raise Asked(arguments[-1])

    monkeypatch.setattr(f"{module}.evaluate", evaluate)
    monkeypatch.setattr(f"{module}.open_store", lambda root: store)  # there is no run of Prefect here


def test_of_vip_evaluate(store, refs, monkeypatch):
    asks(monkeypatch, "flows.evaluate", store)
    run = EvaluateRun(name="it", checkpoint="it", dataset="it", prompts={"oracle": "it"}, runner=RUNNER)
    run = run.model_copy(update={"evaluate": EvaluateConfig(settings=("oracle",))})
    with pytest.raises(Asked) as asked:
        evaluate_run.fn(store.backend.url, run)
    assert asked.value.args == (RUNNER,)


def test_of_the_exam_that_the_promoted_one_sits(store, refs, monkeypatch):
    asks(monkeypatch, "flows.promote", store)
    recipe = Recipe(kind="checkpoint", stage="test", params={"name": "other"})
    other = store.build(recipe, lambda folder: (folder / "file").write_text("other") and {})
    Refs(store.backend).set("promoted/it", other[0].ref)
    with pytest.raises(Asked) as asked:
        promote(
            store.backend.url,
            "it",
            refs["evaluation"],
            refs["dataset"],
            {},
            EvaluateConfig(),
            PromotionRules(),
            runner=RUNNER,
        )
    assert asked.value.args == (RUNNER,)
