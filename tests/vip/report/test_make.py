"""The report: everything in one page, nothing loaded, nothing run, every figure traceable."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from schemas.canonical import sha256_hex
from schemas.evaluate_config import EvaluateConfig
from schemas.region import FileRegion, View
from schemas.run_summary import RunSummary, StageSummary
from schemas.tables import METRICS
from storage.store import ArtifactStore
from storage.tables import read_table
from tests.vip.evaluation.world import make_world
from vip.evaluation.evaluate import evaluate
from vip.report.chart import Line, line_chart
from vip.report.make import make_report

RUN = RunSummary(
    stages=(StageSummary(name="caption", seconds=63.4, made=2, note="<b>24</b> captions"),),
    facts={"Captions a second": "61"},
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    store = ArtifactStore(folder / "root")
    dataset, prompts, checkpoint = make_world(store, folder / "pictures", count=12)
    config = EvaluateConfig(settings=("oracle", "unconditional"), steps=1, images=3, resamples=100)
    evaluation = evaluate(store, config, checkpoint, dataset, prompts)
    report = make_report(store, evaluation, RUN, title="Balls & <fields>", pictures=2)
    return store, evaluation, checkpoint, prompts, store.read(report, "report.html").decode()


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_nothing_is_loaded_and_nothing_runs(made):
    tags = Tags(made[-1]).found
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in tags}
    sources = [attrs["src"] for _, attrs in tags if "src" in attrs]
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert "url(" not in made[-1] and not any("href" in attrs for _, attrs in tags)


def test_pictures_stand_beside_their_texts(made):
    page = made[-1]
    # Per image: the original, the known part, and one picture a setting.
    assert sum(tag == "img" for tag, _ in Tags(page).found) == 2 * 4
    sha = re.search(r'<b>Original</b><code title="([0-9a-f]{64})">', page)[1]
    assert f"oracle ball {sha[:4]}" in page and f"oracle field {sha[4:8]}" in page
    assert "no text" in page


def test_every_figure_shows_its_id_and_where_it_comes_from(made):
    store, evaluation, checkpoint, prompts, page = made
    for row in read_table(store.read(evaluation, "metrics.parquet"), METRICS).to_pylist():
        assert row["metric_id"] in page
    for digest in (evaluation.digest, checkpoint.digest, prompts["oracle"].digest):
        assert digest in page
    assert "efficientnet-lite0 features" in page
    assert not re.search(r"\bFID\b(?!\.)", page)


def test_an_exam_of_a_mask_file_is_reported(made, tmp_path):
    store, evaluation, checkpoint, *_ = made
    mask = tmp_path / "mask.png"
    Image.fromarray(np.repeat([[0, 255]], 32, axis=1).repeat(64, axis=0).astype(np.uint8)).save(mask)
    region = FileRegion(path=str(mask), sha256=sha256_hex(mask.read_bytes()))
    exam = {"settings": ("unconditional",), "steps": 1, "images": 2, "resamples": 100, "floor": False}
    config = EvaluateConfig(**exam, view=View(width=64, height=64), region=region)
    dataset = store.require(evaluation.inputs["dataset"])
    page = store.read(make_report(store, evaluate(store, config, checkpoint, dataset, {})), "report.html").decode()
    assert f"2 images of the test split, view 64x64-centre, region {region.id}, 1 steps" in page


def test_what_users_write_is_escaped(made):
    page = made[-1]
    assert "Balls &amp; &lt;fields&gt;" in page and "<fields>" not in page
    assert "&lt;b&gt;24&lt;/b&gt; captions" in page
    assert "1 min 3 s" in page


def test_a_chart_is_well_formed_whatever_the_values():
    assert line_chart([Line("none", [], [])], "step") == ""
    assert line_chart([Line("nan", [1], [float("nan")])], "step") == ""
    for values in ([3.0], [2.0, 2.0], [1e-9, 1e9], [-1.0, float("inf"), 2.0]):
        svg = line_chart([Line("<a>", list(range(len(values))), values)], "step", zero=True)
        assert svg.startswith("<svg") and svg.endswith("</svg>") and "<a>" not in svg
        assert "nan" not in svg and "inf" not in svg
