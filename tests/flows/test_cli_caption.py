"""``vip caption``: the plan is of what would be asked, and options that exclude each other are wrong usage."""

import contextlib
import json
from itertools import combinations

import pytest
import yaml
from click.testing import CliRunner

from flows.caption import Captioned
from flows.cli.caption import command
from schemas.errors import VipError
from storage.refs import Refs
from storage.store import ArtifactStore
from tests.fake_openai import FakeServer, serving
from tests.vip.captioning.helpers import make_dataset, make_spec, make_tokenizer, run, write_images

ONE_OF = (("--limit", "5"), ("--reask", "3"), ("--retry-rejected",))


@pytest.fixture
def plan(tmp_path):
    """Of 24 rows that are all answered, and all rejected; asks ``vip caption --plan`` with some options."""
    store = ArtifactStore(tmp_path / "root")
    dataset = make_dataset(store, write_images(tmp_path / "images", 24))
    spec = make_spec(tokenizer := make_tokenizer(tmp_path / "tokenizer"))
    written = {**spec.model_dump(mode="json"), "tokenizer": str(tokenizer)}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(written))
    with serving(FakeServer(text=lambda body: "nonsense")) as url:
        run(store, dataset, spec, [url], tmp_path / "scratch")

    def ask(*options):
        told = [dataset.key, "--spec", str(tmp_path / "spec.yaml"), "--view", "16x16", "--plan", "--json"]
        done = CliRunner().invoke(command, [*told, "--root", str(tmp_path / "root"), *options])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return ask


@pytest.mark.parametrize(
    ("options", "rows", "requests"), [((), 24, 0), (ONE_OF[0], 5, 0), (ONE_OF[1], 3, 3), (ONE_OF[2], 24, 24)], ids=str
)
def test_the_plan_is_of_what_the_options_would_ask(plan, options, rows, requests):
    told = plan(*options)
    assert (told["rows"], told["requests"]) == (rows, requests)


@pytest.mark.parametrize("options", list(combinations(ONE_OF, 2)), ids=str)
@pytest.mark.parametrize("more", [(), ("--plan",)], ids=str)
def test_only_one_choice_of_rows_may_be_made(options, more, tmp_path):
    arguments = ["images", "--root", str(tmp_path / "root"), *more, *(part for option in options for part in option)]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 2 and "one of --limit, --reask and --retry-rejected" in done.output
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--max-hours", "nan"), "the budget: hours: Input should be greater than 0"),
        (("--price-per-hour", "nan"), "the price: per_hour: Input should be"),
        (("--price-per-million", "1", "nan"), "the price: per_million_completion: Input should be"),
        (("--preset", "192-128", "--view", "512x512"), "--preset and --view are both given"),
        (("--preset", "192-128", "--keep", "0.5"), "--preset and --keep are both given"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_said_in_one_line(options, said, tmp_path):
    done = CliRunner().invoke(command, ["images", "--root", str(tmp_path / "root"), *options])
    assert isinstance(done.exception, VipError) and said in str(done.exception)


@pytest.mark.parametrize(
    ("given", "label"), [("dataset/zebras", "zebras"), ("zebras", "zebras"), ("dataset/animals", "animals")]
)
def test_captions_are_called_as_the_dataset_that_was_given(given, label, tmp_path, monkeypatch):
    """Two names may mean one dataset."""
    root = tmp_path / "root"
    store = ArtifactStore(root)
    for name in ("animals", "zebras"):
        dataset = make_dataset(store, write_images(tmp_path / "images", 4), name)
    spec = make_spec(make_tokenizer(tmp_path / "tokenizer"))
    with serving(FakeServer()) as url:
        made, asked = run(store, dataset, spec, [url], tmp_path / "scratch")
    monkeypatch.setattr("flows.caption.caption", lambda *_: [Captioned(made.ref, asked, 4, 0)])
    monkeypatch.setattr("flows.run.local_run", contextlib.nullcontext)
    done = CliRunner().invoke(command, [given, "--root", str(root), "--view", "16x16"])
    assert done.exit_code == 0, done.output
    assert [name for name in Refs(store.backend).names() if name.startswith("captions/")] == [f"captions/{label}"]
