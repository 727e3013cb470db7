"""How the end of a run is told."""

import pytest

from flows.cli.result import show_result
from schemas.manifest import Recipe
from schemas.run_result import RunResult
from schemas.run_summary import RunSummary
from schemas.tables import CAPTIONS, METRICS
from storage.store import ArtifactStore
from storage.tables import write_table


def caption(number):
    texts = {name: "" for name in CAPTIONS.names if CAPTIONS.field(name).type == "string"}
    counts = dict.fromkeys(("tokens_centre", "tokens_surrounding", "tokens_total"), 1)
    return {**texts, **counts, "caption_id": f"{number:032x}", "leak": [], "request_ids": [], "draws": []}


@pytest.mark.parametrize(("shards", "told"), [([[], [caption(7)]], "vip audit caption 000000000000"), ([[], []], "")])
def test_the_next_step_is_a_caption_that_is_there(tmp_path, capsys, shards, told):
    store = ArtifactStore(tmp_path)

    def table(kind, name, rows, schema, **params):
        recipe = Recipe(kind=kind, stage="test", params=params)
        return store.build(recipe, lambda folder: {"rows": {name: write_table(folder / name, rows, schema)}})[0].ref

    def of(kind, inputs):
        recipe = Recipe(kind=kind, stage="test", inputs=inputs)
        return store.build(recipe, lambda folder: (folder / "file").write_text(kind) and {})[0].ref

    parts = [table("captions", "captions.parquet", rows, CAPTIONS, n=n) for n, rows in enumerate(shards)]
    captions = of("caption_set", {f"captions/{number}": ref for number, ref in enumerate(parts)})
    metric = dict.fromkeys(METRICS.names, "") | {"metric_id": "a" * 32, "value": 1.0, "low": None, "high": None, "n": 2}
    evaluation = table("evaluation", "metrics.parquet", [metric], METRICS)
    others = dict.fromkeys(("dataset", "gate", "checkpoint", "promotion", "report"), captions)
    result = RunResult(**others, captions=captions, evaluation=evaluation, requests=1, steps=1, summary=RunSummary())
    show_result(str(tmp_path), result)
    said = capsys.readouterr().out
    assert told in said and ("vip audit caption" in said) == bool(told)
    assert "vip audit metric aaaaaaaaaaaa" in said
