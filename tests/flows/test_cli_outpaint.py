"""``vip outpaint``: right pictures, and bad calls that end with one helpful line."""

import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from flows.cli.main import main
from schemas.outpaint_settings import OutpaintSettings
from storage.refs import Refs
from storage.store import ArtifactStore
from tests.vip.evaluation.world import make_checkpoint
from vip.outpaint.files import read_lineage
from vip.outpaint.job import outpaint_file


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outpaint")
    store = ArtifactStore(folder / "root")
    Refs(store.backend).set("promoted", make_checkpoint(store).ref)
    return folder / "root"


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def call(root, photo, *more, expand="8,8,8,8", out="out.png"):
    words = ["outpaint", str(photo), "--checkpoint", "promoted", "--root", str(root), "--steps", "1"]
    words += ["--out", str(photo.parent / out), *(["--expand", expand] if expand else []), *more]
    main(words)


def test_a_picture_is_continued_and_carries_its_lineage(root, photo, capsys):
    call(root, photo, "--center", "a dog", "--surrounding", "a beach", "--json")
    said = json.loads(capsys.readouterr().out)
    with Image.open(photo.parent / "out.png") as made, Image.open(photo) as own:
        assert made.size == (72, 56)
        np.testing.assert_array_equal(np.asarray(made)[12:44, 12:60], np.asarray(own)[4:36, 4:52])
    lineage = read_lineage(photo.parent / "out.png")
    assert lineage["checkpoint"] == said["checkpoint"]
    assert (lineage["center_prompt"], lineage["surrounding_prompt"], lineage["seed"]) == ("a dog", "a beach", 0)


def test_a_picture_says_what_made_it_and_where_that_came_from(root, photo, capsys):
    call(root, photo, "--center", "a dog", "--surrounding", "a beach")
    capsys.readouterr()
    main(["audit", "picture", str(photo.parent / "out.png"), "--root", str(root), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert (said["picture"]["surrounding_prompt"], said["known"]) == ("a beach", True)
    assert said["checkpoint"]["digest"] == said["picture"]["checkpoint"]["digest"]
    assert said["made_by"]["stage"] and all(check["ok"] for check in said["checks"])
    (photo.parent / "another").mkdir()
    main(["audit", "picture", str(photo.parent / "out.png"), "--root", str(photo.parent / "another"), "--json"])
    assert not json.loads(capsys.readouterr().out)["known"]
    with pytest.raises(SystemExit) as failed:
        main(["audit", "picture", str(photo), "--root", str(root)])
    assert failed.value.code == 1 and "carries no lineage" in capsys.readouterr().err


def test_several_results_make_a_sheet(root, photo, capsys):
    call(root, photo, "--count", "3", "--surrounding", "sea, sand")
    files = [photo.parent / f"out-{number}.png" for number in (1, 2, 3)]
    assert [read_lineage(path)["seed"] for path in files] == [0, 1, 2]
    assert read_lineage(photo.parent / "out.png")["seeds"] == [0, 1, 2]
    assert read_lineage(files[0])["surrounding_prompt"] == "sea, sand"
    assert "sheet" in capsys.readouterr().out


def test_a_run_that_ends_early_keeps_what_it_painted(root, photo):
    out = photo.parent / "out.png"

    def stop(what, done, total):
        if what.startswith("picture 3"):
            raise KeyboardInterrupt

    settings = OutpaintSettings(steps=1, count=3)
    with pytest.raises(KeyboardInterrupt):
        outpaint_file(photo, out, "promoted", str(root), "8,8,8,8", surrounding="sea", settings=settings, progress=stop)
    kept = [photo.parent / f"out-{number}.png" for number in (1, 2)]
    assert [read_lineage(path)["seed"] for path in kept] == [0, 1] and not out.exists()


@pytest.fixture
def answers():
    """A server that answers as a foreign one might, and what it was asked."""
    asked = []

    class Answers(BaseHTTPRequestHandler):
        models: ClassVar = ["some-model"]
        text = "Center: red boat; Surrounding: sea, dawn"

        def do_GET(self):
            models = [{"id": name} for name in self.models]
            self.answer({"data": models} if self.path == "/v1/models" else {"version": "0"})

        def do_POST(self):
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer({"choices": [{"message": {"content": self.text}, "finish_reason": "stop"}]})

        def answer(self, value):
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Answers, asked, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_what_is_not_said_is_proposed(root, photo, answers):
    _, asked, endpoint = answers
    call(root, photo, "--center", "my boat", "--endpoint", endpoint, "--spec", "nano-imagine")
    lineage = read_lineage(photo.parent / "out.png")
    assert (lineage["center_prompt"], lineage["surrounding_prompt"]) == ("my boat", "sea, dawn")
    assert lineage["proposed_by"] == {"model": "some-model", "spec": "nano-imagine"}
    content = asked[0]["messages"][0]["content"]
    assert content[0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert "Kept 2 2 14 14" in content[1]["text"]


def test_a_large_model_is_asked_in_plain_english_with_the_keywords(root, photo, answers):
    server, asked, endpoint = answers
    server.text = '{"centre": "a boat", "surrounding": "the sea at dawn, fog"}'
    call(root, photo, "--keywords", "fog, dawn", "--endpoint", endpoint)
    assert "it must contain: fog, dawn" in asked[0]["messages"][0]["content"][1]["text"]
    lineage = read_lineage(photo.parent / "out.png")
    assert lineage["surrounding_prompt"] == "the sea at dawn, fog" and lineage["keywords"] == ["fog", "dawn"]


def test_nobody_is_asked_where_all_is_said(root, photo, answers):
    _, asked, endpoint = answers
    call(root, photo, "--center", "", "--surrounding", "", "--endpoint", endpoint)
    assert not asked and read_lineage(photo.parent / "out.png")["proposed_by"] is None


def test_proposals_that_cannot_be_had_or_used_end_with_one_line(root, photo, answers, capsys, monkeypatch):
    server, _, endpoint = answers

    def told(*more):
        assert attempt(root, photo, *more)
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    server.text = "I am sorry"
    assert "proposal cannot be used" in told("--endpoint", endpoint)
    server.text = None
    assert "proposal cannot be used" in told("--endpoint", endpoint)
    server.text = [{"type": "text", "text": "Center: red boat; Surrounding: sea, dawn"}]
    assert "gave no chat answer; give an OpenAI-shaped endpoint" in told("--endpoint", endpoint)
    server.models = []
    assert "serves no model; give one that does" in told("--endpoint", endpoint)
    assert "use one that imagines" in told("--endpoint", endpoint, "--spec", "nano-joint")
    assert "not both" in told("--keywords", "sea", "--surrounding", "sea")
    monkeypatch.setenv("VIP_SERVE_PYTHON", "/nowhere/python")
    assert "no model can be asked: VIP_SERVE_PYTHON" in (line := told()) and "give --surrounding" in line


@pytest.mark.slow
def test_the_nano_captioner_proposes_with_and_without_keywords(root, photo, engine):
    for more, words in (((), []), (("--keywords", "snow, night"), ["snow", "night"])):
        call(root, photo, "--endpoint", engine.endpoint, *more)
        lineage = read_lineage(photo.parent / "out.png")
        assert lineage["center_prompt"] and lineage["surrounding_prompt"]
        assert lineage["proposed_by"] == {"model": engine.served_name, "spec": "nano-imagine"}
        assert [word for word in words if word in lineage["surrounding_prompt"]] == words


@pytest.mark.long
def test_a_person_with_one_photo_needs_no_server(root, photo, monkeypatch, capsys):
    """Nothing is said and nothing runs: vLLM is started, looks at the picture, and is gone afterwards."""
    monkeypatch.chdir(photo.parent)
    written = outpaint_file("photo.png", "wide.png", "promoted", str(root), "8,8,8,8", say=print)
    assert "starting vLLM for nano" in capsys.readouterr().out
    assert written.surrounding and written.proposed_by.startswith("nano@")
    lineage = read_lineage(photo.parent / "wide.png")
    assert (lineage["surrounding_prompt"], lineage["proposed_by"]["model"]) == (
        written.surrounding,
        written.proposed_by,
    )
    log = (root / "scratch" / "logs" / "outpaint.log").read_text()
    port = int(re.search(r"127\.0\.0\.1:(\d+)", log)[1])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def attempt(root, photo, *more, expand="8,8,8,8", out="out.png", target=None, checkpoint="promoted"):
    """Whether a call fails, which it may only with exit code 1."""
    words = ["outpaint", str(photo), "--checkpoint", checkpoint, "--root", str(root), "--steps", "1"]
    words += ["--out", target or str(photo.parent / out), *(["--expand", expand] if expand else []), *map(str, more)]
    try:
        main(words)
    except SystemExit as ending:
        assert ending.code == 1
        return True
    return False


def save(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def mask_of(photo, values):
    return {"expand": None, "more": ("--mask", save(photo.parent / "mask.png", values.astype(np.uint8)))}


def given(photo, name, pixels):
    return {"photo": save(photo.parent / name, pixels), "more": ("--feather", 0)}


def corrupt(photo):
    photo.write_bytes(photo.read_bytes()[:300])
    return {}


CLEAR = np.dstack([np.full((40, 56, 3), 200, np.uint8), np.zeros((40, 56), np.uint8)])
DOT = np.full((1, 1, 3), 77, np.uint8)

TEN = {
    "a mask of another size": (lambda photo: mask_of(photo, np.full((20, 56), 255)), "is 56x20, the picture 56x40"),
    "everything masked": (lambda photo: mask_of(photo, np.full((40, 56), 255)), "white everywhere, so nothing is kept"),
    "nothing masked": (lambda photo: mask_of(photo, np.zeros((40, 56))), "black everywhere, so nothing would be"),
    "a negative expansion": (lambda photo: {"expand": "-4,0,0,0"}, "left is -4; a side cannot be negative"),
    "a missing checkpoint": (lambda photo: {"checkpoint": "gone"}, "no checkpoint is called 'gone'"),
    "an alpha channel": (lambda photo: given(photo, "clear.png", CLEAR), (255, 255, 255)),  # it lies over white
    "a picture of one pixel": (lambda photo: given(photo, "dot.png", DOT), (77, 77, 77)),
    "a text of 500 words": (lambda photo: {"more": ("--surrounding", "tree " * 500)}, "beyond what the model reads"),
    "a corrupt file": (corrupt, "cannot be read as a picture"),
    "an unwritable target": (lambda photo: {"target": "/proc/out.png"}, "cannot be written: No such file or directory"),
}
"""What is wrong -> how the call differs, and the line it ends with, or what the picture shows at (8, 8)."""


def test_ten_bad_calls_end_with_one_helpful_line_or_the_right_picture(root, photo, capsys):
    whole = photo.read_bytes()
    for name, (change, expected) in TEN.items():
        photo.write_bytes(whole)
        changes = change(photo)
        more = ("--surrounding", "", *changes.pop("more", ()))
        before = sorted(photo.parent.iterdir())
        failed = attempt(root, changes.pop("photo", photo), *more, **changes)
        told = capsys.readouterr()
        if failed:
            (line,) = told.err.strip().splitlines()
            assert expected in line and ";" in line, (name, line)
            assert sorted(photo.parent.iterdir()) == before
        elif isinstance(expected, str):
            assert expected in told.out, (name, told)
        else:
            with Image.open(photo.parent / "out.png") as made:
                assert (made.mode, made.getpixel((8, 8))) == ("RGB", expected), name


MORE = {
    "no picture at all": (lambda photo: photo.unlink() or {}, "does not exist; give the path of a picture"),
    "no expansion at all": (lambda photo: {"expand": "0,0,0,0"}, "nothing would be generated"),
    "neither expansion nor mask": (lambda photo: {"expand": None}, "give either an expansion or a mask"),
    "a target nowhere": (lambda photo: {"out": "nowhere/out.png"}, "does not exist; make it first"),
    "a target that is a folder": (lambda photo: (photo.parent / "o.png").mkdir() or {"out": "o.png"}, "is a folder"),
    "a target under a file": (lambda photo: {"out": "photo.png/out.png"}, "does not exist; make it first"),
    "a target that is no PNG": (lambda photo: {"out": "out.jpg"}, "ends in .png"),
    "the picture as target": (lambda photo: {"out": "photo.png"}, "is the picture itself"),
    "the picture as one of several": (
        lambda photo: {"out": "p.png", "more": ("--count", 2), "photo": photo.rename(photo.parent / "p-1.png")},
        "is the picture itself",
    ),
    "the mask as target": (
        lambda photo: mask_of(photo, np.eye(40, 56) * 255) | {"out": "mask.png"},
        "is the mask itself; choose another name",
    ),
    "an expansion beyond all numbers": (
        lambda photo: {"expand": "9" * 400 + "%,0,0,0"},
        "give whole pixels such as 64",
    ),
    "a dead endpoint": (lambda photo: {"more": ("--endpoint", "http://127.0.0.1:9")}, "does not answer"),
}


@pytest.mark.parametrize("name", list(MORE))
def test_more_bad_calls_end_with_one_line_and_leave_nothing(root, photo, capsys, name):
    change, says = MORE[name]
    changes = change(photo)
    more = changes.pop("more", ())
    before = sorted(photo.parent.iterdir())
    assert attempt(root, changes.pop("photo", photo), *more, **changes)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line
    assert sorted(photo.parent.iterdir()) == before
