"""``recaption`` announces every caption set that passes its gate once, whoever made it."""

import pytest

from flows import recaption as module
from flows.caption import Captioned
from schemas.errors import VipError
from schemas.manifest import ArtifactRef
from schemas.retrain_config import RetrainConfig
from storage.refs import Refs
from storage.store import ArtifactStore
from vip.captioning.ask_stats import AskStats

CONFIG = RetrainConfig.model_validate({"source": "images", "shard": {"name": "scenes"}})


def caption_set(digit):
    return ArtifactRef(kind="caption_set", key=digit * 64, digest=digit * 64)


@pytest.fixture
def night(tmp_path, monkeypatch):
    """Runs the flow once, with the caption set that stands then; returns the digests that it announces."""
    announced = []
    store = ArtifactStore(tmp_path / "root")
    monkeypatch.setattr(module, "shard", lambda *_: None)
    monkeypatch.setattr(module, "open_store", lambda _: store)
    monkeypatch.setattr(module, "emit_event", lambda _, resource, **__: announced.append(resource["vip.digest"]))

    def run(stands, passes=True):
        def gate(*_):
            if not passes:
                raise VipError("the captions failed the gate")

        monkeypatch.setattr(module, "caption", lambda *_, **__: [Captioned(stands, AskStats(), 1, 0)])
        monkeypatch.setattr(module, "gate", gate)
        before = len(announced)
        try:
            module.recaption.fn("root", CONFIG)
        except VipError:
            assert not passes
        return announced[before:]

    run.refs = Refs(store.backend)
    return run


def test_a_caption_set_is_announced_once(night):
    first, second = caption_set("a"), caption_set("b")
    assert night(first) == [first.digest] and night(first) == []
    assert night(second) == [second.digest] and night(second) == []
    assert night.refs.get("captions/scenes") == second


def test_captions_made_by_hand_are_announced_too(night):
    """As after a gate that failed: somebody runs `vip caption --retry-rejected`, and the next night all is well."""
    failed, mended = caption_set("a"), caption_set("b")
    assert night(failed, passes=False) == []
    night.refs.set("captions/scenes", mended)
    assert night(mended) == [mended.digest] and night(mended) == []


def test_what_was_retrained_on_is_not_announced(night):
    trained = caption_set("a")
    night.refs.set("captions/scenes", trained)
    night.refs.set("retrained/scenes", trained, note="as `vip retrain` does")
    assert night(trained) == []
