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


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"expand": "-4,0,0,0"}, "left is -4; a side cannot be negative"),
        ({"expand": "0,0,0,0"}, "nothing would be generated"),
        ({"expand": None}, "give either an expansion or a mask"),
        ({"out": "nowhere/out.png"}, "does not exist; make it first"),
        ({"out": "out.jpg"}, "ends in .png"),
        ({"out": "photo.png"}, "is the picture itself"),
    ],
)
def test_bad_calls_end_with_one_line(root, photo, capsys, more, says):
    with pytest.raises(SystemExit) as ending:
        call(root, photo, **more)
    said = capsys.readouterr().err.strip().splitlines()
    assert ending.value.code == 1 and len(said) == 1 and says in said[0]


def test_bad_checkpoints_pictures_and_masks_end_with_one_line(root, photo, capsys):
    def fails(*words):
        with pytest.raises(SystemExit) as ending:
            main(["outpaint", "--root", str(root), "--out", str(photo.parent / "o.png"), *map(str, words)])
        said = capsys.readouterr().err.strip().splitlines()
        assert ending.value.code == 1 and len(said) == 1
        return said[0]

    assert "no checkpoint is called 'gone'" in fails(photo, "--checkpoint", "gone", "--expand", "8,8,8,8")
    (photo.parent / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much of a picture")
    torn = fails(photo.parent / "torn.jpg", "--checkpoint", "promoted", "--expand", "8,8,8,8")
    assert "torn.jpg cannot be read as a picture" in torn
    Image.new("L", (56, 40), 0).save(photo.parent / "mask.png")
    assert "nothing would be generated" in fails(photo, "--checkpoint", "promoted", "--mask", photo.parent / "mask.png")
    busy = fails(photo, "--checkpoint", "promoted", "--expand", "8,8,8,8", "--endpoint", "http://127.0.0.1:9")
    assert "does not answer" in busy
