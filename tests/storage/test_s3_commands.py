"""Every command that needs no server says of a root in a bucket what it says of the same root on local disk."""

import re
from pathlib import Path

import pytest

from flows.cli.main import main
from flows.run import drawn_folder
from storage.backend import Backend
from storage.store import ArtifactStore
from tests.fake_openai import FakeServer, serving
from tests.vip.captioning.helpers import captions_of, make_dataset, make_spec, make_tokenizer, run, write_images

pytestmark = pytest.mark.slow


@pytest.fixture
def roots(s3_root, tmp_path):
    """A dataset and its captions on local disk and in a bucket; the ids of an image, a caption and the set."""
    local = tmp_path / "root"
    store = ArtifactStore(str(local))
    dataset = make_dataset(store, write_images(tmp_path / "images", 12), bits=1)
    with serving(FakeServer()) as url:
        made, _ = run(store, dataset, make_spec(make_tokenizer(tmp_path / "tokenizer")), [url], tmp_path / "answers")
    bucket = Backend(s3_root)
    for path in store.backend.list(""):
        if not path.startswith("scratch/"):
            bucket.put_if_absent(path, store.backend.get(path))
    row = min(captions_of(store, made)[0], key=lambda one: one["caption_id"])
    return local, s3_root, (row["image_sha256"], row["caption_id"], made.key), tmp_path


def say(capsys, root, *arguments):
    """What a command prints for machines, but for times and the place of the index."""
    main([*arguments, "--root", str(root), "--json"])
    said = capsys.readouterr().out
    return re.sub(r"20\d\d-\d\d-\d\dT[\d:.]+|\"(seconds|file)\": .*", "", said)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_commands_say_the_same_of_a_bucket(roots, capsys):
    local, bucket, (image, caption, captions), folder = roots
    for arguments in (
        ["audit", "image", image],
        ["audit", "caption", caption],
        ["audit", "impact", "--image", image],
        ["audit", "stale"],
        ["audit", "verify"],
        ["audit", "reindex"],
        ["ref", "set", "chosen", f"caption_set/{captions}"],
        ["ref", "list"],
        ["audit", "log", "chosen"],
        ["gc"],
        ["forget", image, "--reason", "asked", "--plan"],
    ):
        assert say(capsys, bucket, *arguments) == say(capsys, local, *arguments), arguments
    for kind, subject in (("captions", "chosen"), ("dataset", "small"), ("croissant", "small"), ("openlineage", None)):
        for root, name in ((local, "local"), (bucket, "bucket")):
            main(
                [
                    "export",
                    kind,
                    *([subject] if subject else []),
                    "--out",
                    str(folder / f"{kind}-{name}"),
                    "--root",
                    str(root),
                ]
            )
    assert files(folder / "captions-bucket") == files(folder / "captions-local") != {}
    assert files(folder / "dataset-bucket") == files(folder / "dataset-local") != {}


def test_what_a_command_draws_lies_in_scratch_and_never_in_a_folder_called_s3(s3_root, tmp_path):
    assert drawn_folder(s3_root, "scenes").is_relative_to(tmp_path / "scratch")
    assert drawn_folder(str(tmp_path / "root"), "scenes") == tmp_path / "root" / "scenes"
