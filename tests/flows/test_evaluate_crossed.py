"""``vip evaluate`` with checkpoints and prompt sets crossed: one command, one table, the same images everywhere."""

import json

import pytest

from flows.cli.main import main
from schemas.bank import Bank
from storage.refs import Refs
from storage.store import ArtifactStore
from tests.vip.evaluation.world import make_captions, make_checkpoint, make_world

CONFIG = """
name: crossed
checkpoint: first
dataset: drawn
prompts: {oracle: mine}
crossed:
  checkpoints: [second]
  prompts: [{oracle: theirs}]
evaluate: {settings: [oracle], steps: 1, images: 3, resamples: 100, floor: false}
"""


@pytest.mark.long
def test_one_command_examines_every_checkpoint_with_every_prompt_set(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = ArtifactStore(tmp_path / "root")
    dataset, prompts, checkpoint = make_world(store, tmp_path / "pictures", count=12)
    refs = Refs(store.backend)
    refs.set("dataset/drawn", dataset.ref)
    refs.set("captions/mine", prompts["oracle"].ref)
    refs.set("captions/theirs", make_captions(store, dataset, Bank(), "other").ref)
    refs.set("checkpoint/first", checkpoint.ref)
    refs.set("checkpoint/second", make_checkpoint(store, seed=1).ref)
    (tmp_path / "crossed.yaml").write_text(CONFIG)
    main(["evaluate", "--config", "crossed.yaml", "--root", str(tmp_path / "root"), "--json"])
    said = json.loads(capsys.readouterr().out)
    table = said["crossing"]["kid"]
    assert len({(row["checkpoint"], row["caption_set"]) for row in table}) == len(table) == 4
    made = {refs.get(name) for name in refs.names() if name.startswith("evaluation/")}
    assert len(made) == 4
    main(["compare", *(ref.key for ref in made), "--crossing", "seam_error", "--root", str(tmp_path / "root")])
    assert "3 images: checkpoints down" in capsys.readouterr().out
