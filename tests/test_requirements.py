"""Pins, their hashes, the audit and the bill of materials."""

import hashlib
import json
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[1] / "requirements"
sys.path.insert(0, str(REQUIREMENTS))

import install  # noqa: E402
from lock import LISTS, locked, normal, pins  # noqa: E402


@pytest.mark.parametrize("name", LISTS)
def test_every_pin_has_the_hashes_of_its_files(name):
    """Where this fails after a change of a pin: `make lock`."""
    wanted = {normal(pin) for pin in pins(REQUIREMENTS / f"{name}.txt")}
    hashes = locked(REQUIREMENTS / "hashes" / f"{name}.txt")
    assert set(hashes) == wanted
    assert all(digests and all(len(digest) == 64 for digest in digests) for digests in hashes.values())


def test_the_cpu_build_of_torch_is_the_one_that_the_lists_name():
    (pin,) = locked(REQUIREMENTS / "hashes" / "torch-cpu.txt")
    named = {one for name in LISTS for one in pins(REQUIREMENTS / f"{name}.txt") if one.startswith("torch==")}
    assert {f"{one}+cpu" for one in named} == {pin}


def test_make_setup_installs_by_hash_alone():
    """What pip is told as `make setup` runs it; HASHES=no is the only way around."""
    said = subprocess.run(
        ["make", "-n", "-B", "setup", ".venv/.done-tools", "HASHES=yes", "SERVE=cpu"],
        cwd=REQUIREMENTS.parent,
        capture_output=True,
        text=True,
    )
    installs = [line.split() for line in said.stdout.splitlines() if "install" in line]
    assert [line[1:] for line in installs] == [
        ["requirements/install.py", "build", "torch-cpu", "pipeline"],
        ["-m", "pip", "--disable-pip-version-check", "-qq", "install", "--no-deps", "--no-build-isolation", "-e", "."],
        ["requirements/install.py", "torch-cpu", "serve-cpu"],
        ["requirements/install.py", "kubernetes", "tools"],
    ]


@pytest.fixture
def wheel(tmp_path):
    """A folder with the wheel of a small package."""
    info = "small-1.0.dist-info"
    files = {
        "small.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    (tmp_path / "wheels").mkdir()
    file = tmp_path / "wheels" / "small-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return file


@pytest.mark.parametrize("kind", ["right", "changed", "unknown"])
def test_a_file_that_was_changed_is_not_installed(kind, wheel, tmp_path, capfd):
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if kind == "changed":
        with zipfile.ZipFile(wheel, "a") as archive:
            archive.writestr("more.py", "")
    (tmp_path / "list.txt").write_text("small==1.0" + (f" --hash=sha256:{digest}" if kind != "unknown" else ""))
    target = tmp_path / "installed"
    options = ["--isolated", "--no-index", "--find-links", str(wheel.parent), "--target", str(target)]
    failed = install.install(tmp_path / "list.txt", options)
    assert bool(failed) == (kind != "right") == (not (target / "small.py").exists())
    said = {"right": "", "changed": "DO NOT MATCH THE HASHES", "unknown": "Hashes are required"}
    assert said[kind] in capfd.readouterr().err


@pytest.mark.parametrize(
    "together", [("build", "pipeline", "kubernetes", "tools"), ("build", "pipeline", "cuda", "kubernetes")]
)
def test_lists_that_share_an_environment_name_no_package_twice(together):
    names = [normal(pin).split("==")[0] for name in together for pin in pins(REQUIREMENTS / f"{name}.txt")]
    assert sorted(names) == sorted(set(names))


class Advisories(BaseHTTPRequestHandler):
    """A stand-in for the OSV database, in which one package is vulnerable."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = {"id": "GHSA-aaaa-bbbb-cccc", "summary": "bad", "affected": [], "aliases": []}
        vulnerable = asked["package"]["name"] == self.server.vulnerable
        body = json.dumps({"vulns": [known]} if vulnerable else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def advisories():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Advisories)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def audit(url):
    code = f"import sys; from audit import audit; sys.exit(audit('kubernetes', ['--osv-url', {url!r}]))"
    return subprocess.run([sys.executable, "-c", code], cwd=REQUIREMENTS, capture_output=True, text=True)


@pytest.mark.parametrize(("vulnerable", "outcome"), [("kopf", 1), (None, 0)])
def test_the_audit_says_what_the_advisory_database_knows(advisories, vulnerable, outcome):
    advisories.vulnerable = vulnerable
    done = audit(f"http://127.0.0.1:{advisories.server_port}")
    assert done.returncode == outcome, done.stderr
    assert ("GHSA-aaaa-bbbb-cccc" in done.stdout) == bool(outcome)


def test_an_audit_that_cannot_ask_is_no_clean_bill():
    done = audit("http://127.0.0.1:9")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "nothing is known about kubernetes" in done.stderr


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_the_bill_of_materials_is_valid_and_names_every_pin(tmp_path):
    """As `make sbom` makes it, and read by CycloneDX's own validator once more."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    file = tmp_path / "sbom.json"
    tool = Path(sys.executable).with_name("cyclonedx-py")
    project = REQUIREMENTS.parent / "pyproject.toml"
    command = [tool, "environment", sys.executable, "--pyproject", project, "--mc-type", "application"]
    # Its own validation, half a minute, is left out here because the next lines do the same.
    command += ["--no-validate", "--output-reproducible", "--output-file", file]
    subprocess.run(command, check=True, capture_output=True)
    text = file.read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    assert bill["metadata"]["component"]["name"] == "vip-outpaint"
    found = {normal(f"{one['name']}=={one['version'].split('+')[0]}") for one in bill["components"]}
    assert found >= {normal(pin) for pin in pins(REQUIREMENTS / "pipeline.txt")}
    assert str(REQUIREMENTS.parent) not in text
