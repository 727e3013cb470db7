"""Whatever stands in a config, a command reads it as data, within bounds, or ends with one line that says where."""

import time

import pytest

from flows.cli.common import load_config, one_line
from schemas.errors import VipError
from schemas.retrain_config import RetrainConfig
from tests.hostile_page import compare_section
from vip.captioning.specs import load_spec


def bomb(levels=9, width=9):
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


# name -> (what the file holds, how the error goes on after the file's name; empty: it is read)
KINDS = {
    "unknown key": ("source: a\nsauce: b\n", "sauce is no known setting"),
    "unknown key, nested": ("source: a\ntrain: {step: 5}\n", "train.step is no known setting"),
    "key of 100,000 characters": (f"source: a\n? {'k' * 100_000}\n: 1\n", "k is no known setting"),
    "key that colours the terminal": ('source: a\n"\\e[31mred": 1\n', "[31mred is no known setting"),
    "text for a number": ("source: a\ntrain: {steps: many}\n", "train.steps: Input should be a valid integer"),
    "number for a mapping": ("source: a\ntrain: 5\n", "train: Input should be a valid dictionary"),
    "list for the whole file": ("- source\n", "the file: Input should be a valid dictionary"),
    "text for the whole file": ("source\n", "the file: Input should be a valid dictionary"),
    "not a number": ("source: a\ntrain: {lr: .nan}\n", "train.lr: Input should be"),
    "number of 5,000 digits": (f"source: a\ntrain: {{steps: {'9' * 5000}}}\n", "is no YAML: Exceeds the limit"),
    "empty file": ("", "source: Field required"),
    "no path": ("source: ''\n", "source: String should have at least 1 character"),
    "null byte": ("source: a\0b\n", "is no YAML"),
    "bytes that are no UTF-8": (b"source: \xff\xfe\n", "is no YAML: it is no UTF-8 at byte 8"),
    "two documents": ("source: a\n---\nsource: b\n", "is no YAML: expected a single document"),
    "bracket that never closes": ("source: [a\n", "is no YAML"),
    "one key twice": ("source: a\nsource: b\n", "source stands twice"),
    "tag that would call a command": (
        "source: !!python/object/apply:os.system ['touch {canary}']\n",
        "is no YAML: could not determine a constructor",
    ),
    "tag that would import a module": ("source: !!python/module:antigravity ''\n", "is no YAML: could not determine"),
    "bomb of anchors (387 million values)": (f"source: a\n{bomb()}\n", "expands to more than 100,000 values"),
    "anchor that contains itself": ("source: &a [*a]\n", "an anchor contains itself"),
    "anchor that is not there": ("source: *nowhere\n", "is no YAML: found undefined alias"),
    "10,000 brackets deep": ("source: " + "[" * 10_000 + "]" * 10_000, "is nested too deep"),
    "60 brackets deep": ("source: " + "[" * 60 + "]" * 60, "is nested too deep"),
    "2 MB of comment": ("source: a\n" + "# x\n" * 500_000, "is larger than 1 MiB"),
    "folder": (None, "is no regular file"),
    "endless device": ("/dev/zero", "is no regular file"),
    "anchors and merge keys": ("source: &s a\nshard: &d {bits: 1}\n", ""),
    "byte order mark": ("\ufeffsource: a\n", ""),
    "right-to-left name": ("source: '\u05ea\u05de\u05d5\u05e0\u05d5\u05ea'\n", ""),
}


def write(kind, folder):
    content, path = KINDS[kind][0], folder / "run.yaml"
    if content is None:
        path.mkdir()
    elif content == "/dev/zero":
        path.symlink_to(content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content.replace("{canary}", str(folder / "canary")))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_config_is_read_as_data_or_refused_in_one_line(kind, tmp_path):
    path, wanted = write(kind, tmp_path), KINDS[kind][1]
    started = time.process_time()
    if wanted:
        with pytest.raises(VipError) as caught:
            load_config(path, RetrainConfig)
        line = one_line(str(caught.value))
        assert wanted in line and str(path) in line and line.isprintable() and len(line) < 2100
    else:
        assert load_config(path, RetrainConfig).source
    assert time.process_time() - started < 5
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("kind", [kind for kind, (_, wanted) in KINDS.items() if wanted])
def test_a_spec_is_refused_in_one_line_too(kind, tmp_path):
    with pytest.raises(VipError) as caught:
        load_spec(str(write(kind, tmp_path)))
    assert str(tmp_path) in str(caught.value)
    assert not (tmp_path / "canary").exists()


def test_the_page_in_the_docs_is_what_the_tests_show():
    said = {kind: f"refused: {wanted}" if wanted else "read" for kind, (_, wanted) in KINDS.items()}
    text = "What comes of a config file. A refusal is one line that names the file, and the exit code is 1."
    compare_section("Configs", text, said)
