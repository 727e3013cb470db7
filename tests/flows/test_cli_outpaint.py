"""``vip outpaint``: right pictures, and bad calls that end with one helpful line."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from PIL import Image

from flows.cli.main import main
from storage.refs import Refs
from storage.store import ArtifactStore
from tests.vip.evaluation.world import make_checkpoint
from vip.outpaint.files import read_lineage


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


def test_several_results_make_a_sheet(root, photo, capsys):
    call(root, photo, "--count", "3", "--keywords", "sea, sand")
    files = [photo.parent / f"out-{number}.png" for number in (1, 2, 3)]
    assert [read_lineage(path)["seed"] for path in files] == [0, 1, 2]
    assert read_lineage(photo.parent / "out.png")["seeds"] == [0, 1, 2]
    assert read_lineage(files[0])["surrounding_prompt"] == "sea, sand"
    assert "sheet" in capsys.readouterr().out


def test_what_is_not_said_is_proposed(root, photo, capsys):
    asked = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer({"data": [{"id": "some-model"}]} if self.path == "/v1/models" else {"version": "0"})

        def do_POST(self):
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            text = "Center: red boat; Surrounding: sea, dawn"
            self.answer({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})

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
    try:
        call(root, photo, "--center", "my boat", "--endpoint", f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
    lineage = read_lineage(photo.parent / "out.png")
    assert (lineage["center_prompt"], lineage["surrounding_prompt"], lineage["proposed"]) == (
        "my boat",
        "sea, dawn",
        True,
    )
    content = asked[0]["messages"][0]["content"]
    assert content[0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert "Kept 2 2 14 14" in content[1]["text"]


def attempt(root, photo, *more, expand="8,8,8,8", out="out.png", checkpoint="promoted"):
    """The one line that a call ends with on stderr; empty where it works."""
    words = ["outpaint", str(photo), "--checkpoint", checkpoint, "--root", str(root), "--steps", "1"]
    words += ["--out", str(photo.parent / out), *(["--expand", expand] if expand else []), *map(str, more)]
    try:
        main(words)
    except SystemExit as ending:
        assert ending.code == 1
        return True
    return False


def save(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


TEN = {
    "a mask of another size": (lambda photo: mask_of(photo, np.full((20, 56), 255)), "is 56x20, the picture 56x40"),
    "everything masked": (lambda photo: mask_of(photo, np.full((40, 56), 255)), "white everywhere, so nothing is kept"),
    "nothing masked": (lambda photo: mask_of(photo, np.zeros((40, 56))), "black everywhere, so nothing would be"),
    "a negative expansion": (lambda photo: {"expand": "-4,0,0,0"}, "left is -4; a side cannot be negative"),
    "no expansion at all": (lambda photo: {"expand": "0,0,0,0"}, "nothing would be generated"),
    "neither expansion nor mask": (lambda photo: {"expand": None}, "give either an expansion or a mask"),
    "a missing checkpoint": (lambda photo: {"checkpoint": "gone"}, "no checkpoint is called 'gone'"),
    "a corrupt file": (lambda photo: photo.write_bytes(photo.read_bytes()[:300]) and {}, "cannot be read as a picture"),
    "a target nowhere": (lambda photo: {"out": "nowhere/out.png"}, "does not exist; make it first"),
    "a target that is a folder": (lambda photo: (photo.parent / "o.png").mkdir() or {"out": "o.png"}, "is a folder"),
    "a target under a file": (lambda photo: {"out": "photo.png/out.png"}, "does not exist; make it first"),
    "a target that is no PNG": (lambda photo: {"out": "out.jpg"}, "ends in .png"),
    "the picture as target": (lambda photo: {"out": "photo.png"}, "is the picture itself"),
    "a dead endpoint": (lambda photo: {"more": ("--endpoint", "http://127.0.0.1:9")}, "does not answer"),
}


def mask_of(photo, values):
    return {"expand": None, "more": ("--mask", save(photo.parent / "mask.png", values.astype(np.uint8)))}


@pytest.mark.parametrize("name", list(TEN))
def test_bad_calls_end_with_one_line_and_leave_nothing(root, photo, capsys, name):
    change, says = TEN[name]
    changes = change(photo)
    more = changes.pop("more", ())
    before = sorted(photo.parent.iterdir())
    assert attempt(root, photo, *more, **changes)
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and says in said[0], said
    assert sorted(photo.parent.iterdir()) == before


def test_odd_calls_end_with_the_right_picture(root, photo, capsys):
    place = photo.parent
    clear = np.dstack([np.full((40, 56, 3), 200, np.uint8), np.zeros((40, 56), np.uint8)])
    assert not attempt(root, save(place / "clear.png", clear), out="clear-out.png")
    with Image.open(place / "clear-out.png") as made:  # transparent pixels lie over white
        assert made.mode == "RGB" and np.asarray(made)[12:44, 12:60].min() == 255
    assert not attempt(
        root, save(place / "dot.png", np.full((1, 1, 3), 77, np.uint8)), "--feather", 0, out="dot-out.png"
    )
    with Image.open(place / "dot-out.png") as made:
        assert made.size == (17, 17) and made.getpixel((8, 8)) == (77, 77, 77)
    capsys.readouterr()
    assert not attempt(root, photo, "--surrounding", "tree " * 500, out="long-out.png")
    told = capsys.readouterr().out
    assert "not read" in told and "tree" in told.replace(" ", "")
    assert read_lineage(place / "long-out.png")["surrounding_prompt"] == "tree " * 500
