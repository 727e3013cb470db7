"""The key of an endpoint: shown to every server and written nowhere; real vLLM is asked in test_engine.py."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from aiohttp import web

from schemas.errors import VipError
from schemas.retrain_config import CaptionConfig
from tests.fake_openai import FakeServer, serving
from tests.vip.captioning.helpers import captions_of, make_dataset, make_spec, make_tokenizer, run, write_images
from vip.captioning.endpoint import ClientSettings
from vip.serving.engine import Engine, find_serve_python
from vip.serving.http import LONGEST_BODY, fetch
from vip.serving.identity import base_url, served_models

ROOT = Path(__file__).parents[3]
KEY = "sk-kEyKeYkEyKeY0123456789"


def everything_under(*folders):
    """Path -> bytes of every file."""
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def dataset(store, tmp_path):
    return make_dataset(store, write_images(tmp_path / "images", 12), bits=1)


@pytest.fixture
def spec(tmp_path):
    return make_spec(make_tokenizer(tmp_path / "tokenizer"))


def test_a_server_that_demands_a_key_gets_the_one_of_the_environment(store, dataset, spec, tmp_path, monkeypatch):
    monkeypatch.setenv("VIP_API_KEY", KEY + "\n")
    with serving(FakeServer(api_key=KEY)) as url:
        assert served_models(url) == ["fake"]
        made, _ = run(store, dataset, spec, [url], tmp_path / "scratch")
    assert len(captions_of(store, made)[0]) == 12
    files = everything_under(tmp_path)
    assert any(path.name.endswith(".parquet") for path in files)
    assert [path for path, data in files.items() if KEY.encode() in data] == []


@pytest.mark.parametrize("key", ["", "another"])
def test_without_the_right_key_the_run_ends_with_one_line_that_names_the_setting(
    key, store, dataset, spec, tmp_path, monkeypatch
):
    monkeypatch.setenv("VIP_API_KEY", key)
    with serving(FakeServer(api_key=KEY)) as url:
        for attempt in (lambda: served_models(url), lambda: run(store, dataset, spec, [url], tmp_path / "scratch")):
            with pytest.raises(VipError, match="401") as caught:
                attempt()
            assert "VIP_API_KEY" in caught.value.remedy
            assert KEY not in str(caught.value) and "another" not in str(caught.value)


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_a_key_that_no_header_can_carry_is_refused_unrepeated(key, monkeypatch):
    monkeypatch.setenv("VIP_API_KEY", key)
    with pytest.raises(VipError, match="VIP_API_KEY") as caught:
        served_models("http://127.0.0.1:9")
    assert key not in str(caught.value)


@pytest.mark.parametrize("url", ["http://me:secret@127.0.0.1:9/v1", "me:secret@host", "http://127.0.0.1:9/?key=secret"])
def test_an_endpoint_with_a_secret_in_it_is_refused_unrepeated(url):
    """Before it is a parameter of a flow, which Prefect would keep."""
    for take in (base_url, lambda endpoint: CaptionConfig(endpoints=(endpoint,))):
        with pytest.raises(VipError, match="VIP_API_KEY") as caught:
            take(url)
        assert "secret" not in str(caught.value)


def test_nobody_is_sent_elsewhere(store, dataset, spec, tmp_path, monkeypatch):
    """A server that redirects would choose who sees the images and the key."""
    monkeypatch.setenv("VIP_API_KEY", KEY)
    other = FakeServer()

    async def elsewhere(request, body, number):
        return web.Response(status=307, headers={"Location": f"{target}/v1/chat/completions"})

    with serving(other) as target, serving(FakeServer(faults=[elsewhere])) as url:
        with pytest.raises(VipError, match="sends us elsewhere"):
            run(store, dataset, spec, [url], tmp_path / "scratch")
        with pytest.raises(VipError, match="answers 307"):
            fetch(f"{url}/v1/chat/completions", b"{}")
    assert other.requests == 0


def test_an_endless_answer_costs_its_row_and_no_memory(store, dataset, spec, tmp_path):
    """Sixteen megabytes of zeros, packed to sixteen kilobytes."""
    struck = []

    async def endless(request, body, number):
        digest = hashlib.sha256(body).digest()
        if not struck or digest == struck[0]:
            struck[:] = [digest]
            answer = web.Response(body=bytes(4 * LONGEST_BODY), content_type="application/json")
            answer.enable_compression()
            return answer
        return None

    with serving(FakeServer(faults=[endless])) as url:
        with pytest.raises(VipError, match="answers more than"):
            fetch(f"{url}/v1/chat/completions", b"[]", timeout=30)
        struck.clear()
        made, _ = run(store, dataset, spec, [url], tmp_path / "scratch", settings=ClientSettings(poll=0.1))
    captions, rejects = captions_of(store, made)
    assert len(captions) == 11
    assert [row["reason"] for row in rejects] == ["server_error"]


def test_our_own_server_listens_to_others_only_with_a_key(tmp_path, monkeypatch):
    monkeypatch.delenv("VIP_API_KEY", raising=False)
    with pytest.raises(VipError, match="no key to keep them out"):
        Engine("nano", tmp_path / "log", host="0.0.0.0")
    monkeypatch.setenv("VIP_API_KEY", KEY)
    engine = Engine("nano", tmp_path / "log", host="0.0.0.0", port=8000)
    assert engine.endpoint == "http://127.0.0.1:8000"


@pytest.mark.parametrize("argument", ["--host", "--host=0.0.0.0", "--api-key", "--served-model-name=x"])
def test_what_a_server_is_told_by_us_cannot_be_told_around_us(argument, tmp_path):
    """Else a key would stand in the list of processes, or a server without one be open to others."""
    with pytest.raises(VipError, match="not for vLLM"):
        Engine("nano", tmp_path / "log", arguments=(argument, "value"))


def test_the_serving_environment_runs_vip_serve_by_itself():
    """deploy/serve.Dockerfile installs no more than that environment."""
    done = subprocess.run(
        [find_serve_python(), "-m", "flows.cli", "serve", "--host", "0.0.0.0"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "VIP_API_KEY": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == "vip: 0.0.0.0 is open to others, and there is no key to keep them out; set VIP_API_KEY\n"
