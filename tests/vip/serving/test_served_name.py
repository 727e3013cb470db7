"""The name a model is served under: who serves it and who asks it agree, and it says all that can change an answer."""

import pytest
from click.testing import CliRunner

from schemas.errors import VipError
from storage.models import nano_folder
from tests.fake_openai import FakeServer, serving
from vip.captioning.specs import resolve_spec
from vip.serving.engine import Engine, engine_for
from vip.serving.identity import local_identity

HUB_ID = "Org/Tiny-VL"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub cache that holds the small captioner in bfloat16, by its config, under an id of the hub's shape."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    place = tmp_path / "hub" / "models--Org--Tiny-VL"
    snapshot = place / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    for file in nano_folder("captioner").iterdir():
        (snapshot / file.name).symlink_to(file)
    (snapshot / "config.json").unlink()
    config = (nano_folder("captioner") / "config.json").read_text()
    (snapshot / "config.json").write_text(config.replace('"dtype": "float32"', '"dtype": "bfloat16"'))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("a" * 40)


@pytest.fixture
def spec_of(tmp_path):
    """Writes a spec of a model."""

    def write(**model):
        told = ", ".join(f"{name}: {value}" for name, value in model.items())
        path = tmp_path / "mine.yaml"
        path.write_text(f"strategy: joint\nmodel: {{{told}}}\ntemplates: {{joint: Describe.}}\n")
        return str(path)

    return write


def engine(model, tmp_path, *arguments, **options):
    return Engine(model, tmp_path / "log", arguments=arguments, **options)


def told(made, option):
    command = made._command
    return command[command.index(option) + 1] if option in command else None


def served_by_the_command(monkeypatch, tmp_path, *options):
    """The name that ``vip serve`` takes; no server is started."""
    from flows.cli.serve import command

    names = []

    class Replicas:
        def __init__(self, make, *_):
            names.append(make(1, 8000, None).served_name)
            raise VipError("enough")

    monkeypatch.setattr("vip.serving.replicas.Replicas", Replicas)
    CliRunner().invoke(command, ["--root", str(tmp_path / "root"), *options])
    return names[0]


def test_what_vip_serve_serves_vip_caption_takes(hub, spec_of, monkeypatch, tmp_path):
    name = served_by_the_command(monkeypatch, tmp_path, "--model", HUB_ID, "--max-model-len", "4096")
    with serving(FakeServer(name)) as url:
        for spec in (spec_of(id=HUB_ID), spec_of(id=HUB_ID, dtype="bfloat16")):
            model = resolve_spec(spec, endpoint=url).model
            assert (model.id, model.dtype, model.declared) == (HUB_ID, "bfloat16", False)
            assert model.served_name == name == f"{HUB_ID}@{model.revision[:16]}-bfloat16"
        with pytest.raises(VipError, match=f"serves {name}, the spec needs .*-float16"):
            resolve_spec(spec_of(id=HUB_ID, dtype="half"), endpoint=url)


@pytest.mark.parametrize("model", ["nano", "a folder", HUB_ID])
def test_our_own_server_is_asked_under_the_name_it_serves(hub, spec_of, tmp_path, model):
    if model == "a folder":
        model = tmp_path / "mine"
        model.symlink_to(nano_folder("captioner"))
    spec = resolve_spec(spec_of(id="anything", dtype="float16"), model=str(model))
    made = engine_for(spec, tmp_path / "log")
    assert made.served_name == spec.model.served_name and told(made, "--dtype") == "float16"


def test_nano_keeps_its_name(tmp_path):
    spec = resolve_spec("nano-joint")
    assert spec.model.served_name == engine("nano", tmp_path).served_name == f"nano@{spec.model.revision[:16]}"
    assert spec.model.dtype == "float32"


def test_all_that_can_change_an_answer_is_in_the_name(tmp_path):
    template = tmp_path / "template.jinja"
    template.write_text("one")
    names = [
        engine("nano", tmp_path, *arguments, **options).served_name
        for arguments, options in [
            ((), {}),
            ((), {"dtype": "bfloat16"}),
            ((), {"quantization": "fp8"}),
            ((), {"dtype": "bfloat16", "quantization": "fp8"}),
            (("--rope-scaling", "{}"), {}),
            (("--chat-template", str(template)), {}),
        ]
    ]
    template.write_text("another")
    names.append(engine("nano", tmp_path, "--chat-template", str(template)).served_name)
    assert len(set(names)) == len(names)
    placed = engine(
        "nano", tmp_path, "--data-parallel-size", "4", "--enforce-eager", "--max_num_seqs=8", max_model_len=128
    )
    assert placed.served_name == names[0]


def test_a_server_that_was_told_otherwise_is_not_taken_for_the_spec_s(tmp_path):
    """Its answers are another model's; named by hand they are recorded as declared, under a name of their own."""
    for made in (
        engine("nano", tmp_path, dtype="bfloat16"),
        engine("nano", tmp_path, quantization="fp8"),
        engine("nano", tmp_path, "--rope-scaling", "{}"),
    ):
        with serving(FakeServer(made.served_name)) as url:
            with pytest.raises(VipError, match="the spec needs nano@"):
                resolve_spec("nano-joint", endpoint=url)
            model = resolve_spec("nano-joint", model=made.served_name, endpoint=url).model
            assert model.declared and model.id == made.served_name


@pytest.mark.parametrize("argument", ["--dtype", "--quantization=fp8", "-q", "--config", "--served_model_name"])
def test_what_the_name_says_cannot_be_told_around_it(tmp_path, argument):
    with pytest.raises(VipError, match="not for vLLM"):
        engine("nano", tmp_path, argument, "value")


def test_small_is_the_model_and_not_its_dtype(hub, tmp_path):
    nano, large = engine("nano", tmp_path, dtype="bfloat16"), engine(HUB_ID, tmp_path, dtype="float32")
    assert told(nano, "--max-model-len") == "256" and "--enforce-eager" in nano._command
    assert told(large, "--max-model-len") is None and "--enforce-eager" not in large._command
    assert large.ready_seconds > nano.ready_seconds


def test_a_spec_s_quantization_is_served(hub, spec_of, tmp_path):
    spec = resolve_spec(spec_of(id=HUB_ID, quantization="fp8"))
    made = engine_for(spec, tmp_path / "log")
    assert told(made, "--quantization") == spec.model.quantization == "fp8"
    assert made.served_name == spec.model.served_name


def test_a_checkpoint_that_says_no_dtype_is_float32(tmp_path):
    folder = tmp_path / "silent"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"")
    assert local_identity(folder).dtype == "float32"
    (folder / "config.json").write_text('{"text_config": {"torch_dtype": "float16"}}')
    assert local_identity(folder).dtype == "float16" and local_identity(folder, dtype="float").dtype == "float32"


def test_a_spec_may_name_a_folder_as_its_model(spec_of, tmp_path):
    (tmp_path / "mine").symlink_to(nano_folder("captioner"))
    spec = resolve_spec(spec_of(id=tmp_path / "mine"))
    made = engine_for(spec, tmp_path / "log")
    assert made.served_name == spec.model.served_name and told(made, "--model") == str(tmp_path / "mine")
    assert str(tmp_path) not in str((spec.params, spec.asked))


def test_nobody_knows_how_to_serve_a_declared_model(spec_of, tmp_path):
    spec = resolve_spec(spec_of(id="nano", declared="true"))
    with pytest.raises(VipError, match=r"nano of spec mine is declared.*give --endpoint"):
        engine_for(spec, tmp_path / "log")


def test_a_declared_model_is_taken_under_another_name_where_one_is_given(spec_of):
    path = spec_of(id="theirs", declared="true")
    with serving(FakeServer("renamed")) as url:
        assert resolve_spec(path, "renamed", url).model.id == "renamed"
        with pytest.raises(VipError, match="the captions need theirs"):
            resolve_spec(path, endpoint=url)
    assert not resolve_spec(path, "nano").model.declared  # it is ours, and served by us


def test_folders_that_vllm_is_told_are_in_the_name_by_what_they_hold(tmp_path):
    def named(place):
        return engine("nano", tmp_path, "--enable-lora", "--lora-modules", f"mine={tmp_path / place}").served_name

    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "adapter_model.safetensors").write_bytes(b"one")
    before = named("here")
    assert named("there") == before
    (tmp_path / "here" / "adapter_model.safetensors").write_bytes(b"two")
    assert named("here") != before != named("nowhere")


@pytest.mark.parametrize("config", ["{", "[]", '{"text_config": 3}', '{"dtype": {"a": 1}}', "[" * 100_000])
def test_a_config_that_is_none_is_one_line(tmp_path, config):
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(VipError, match=r"config.json cannot be read as a model's config: [^\n]*$"):
        local_identity(tmp_path)
