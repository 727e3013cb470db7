import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from schemas.errors import VipError
from schemas.region import BrushRegion, CentreRegion
from schemas.train_config import TrainConfig
from schemas.training import LOSSES, TrainJob
from tests.vip.diffusion.data import VIEW, write_base, write_shards
from vip.diffusion.load import load_pipeline
from vip.diffusion.pipeline import VIPOutpaintPipeline
from vip.diffusion.train import train
from vip.machine import machine


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("shards"))


def config(**changes):
    return TrainConfig(
        **{
            "view": VIEW,
            "batch": 3,
            "steps": 6,
            "warmup": 2,
            "checkpoint_every": 2,
            "lr": 1e-3,
            "log_every": 1,
            **changes,
        }
    )


def weights(folder):
    return {
        f"{part}.{name}": value
        for part in ("unet", "control")
        for name, value in load_file(folder / "pipeline" / part / "diffusion_pytorch_model.safetensors").items()
    }


def equal(one, two):
    one, two = weights(one), weights(two)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("branches", ["cross_attention", "key_value", "transformer"])
def test_trains_moves_a_and_the_branches_and_saves_a_pipeline(tmp_path, base, shards, branches):
    seen = []
    result = train(config(branches=branches), base, shards, tmp_path / "s", tmp_path / "out", seen.append)
    assert result.machine == machine()
    assert (result.steps, result.samples, result.images, result.resumed_from) == (6, 18, 12, 0)
    assert [progress.step for progress in seen] == [1, 2, 3, 4, 5, 6]
    assert all(abs(a) > 1e-4 for a in result.a.values())
    rows = pq.read_table(tmp_path / "out" / "losses.parquet")
    assert rows.schema.equals(LOSSES) and rows.column("step").to_pylist() == [1, 2, 3, 4, 5, 6]
    pipe = VIPOutpaintPipeline.from_pretrained(tmp_path / "out" / "pipeline")
    assert tuple(pipe.control.config["view"]) == (VIEW.width, VIEW.height)
    fresh = VIPOutpaintPipeline.from_base(str(base), branches=branches)
    assert {path: a.item() for path, a in pipe.control.fusion()} == pytest.approx(result.a)
    moved = [
        name
        for (name, one), two in zip(pipe.control.named_parameters(), fresh.control.parameters(), strict=True)
        if not torch.equal(one, two)
    ]
    assert any("attentions_center" in name for name in moved) and any(
        "attentions_surrounding" in name for name in moved
    )
    assert all(torch.equal(one, two) for one, two in zip(pipe.unet.parameters(), fresh.unet.parameters(), strict=True))
    files = {path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files <= {".safetensors", ".json", ".parquet", ".txt", ".jinja"}


@pytest.mark.soak
def test_a_compiled_training_on_masks_of_many_shapes_learns_the_same(tmp_path, base):
    shards = write_shards(tmp_path / "d", images=6, regions=(CentreRegion(), BrushRegion()))
    changes = {"regime": "glt", "regions": {"centre-*": 1, "brush-*": 1}, "steps": 8}
    with torch._dynamo.config.patch(recompile_limit=3, fail_on_recompile_limit_hit=True):
        compiled = train(config(compile=True, **changes), base, shards, tmp_path / "s1", tmp_path / "compiled")
    plain = train(config(**changes), base, shards, tmp_path / "s2", tmp_path / "plain")
    losses = [
        pq.read_table(tmp_path / way / "losses.parquet").column("loss").to_pylist() for way in ("compiled", "plain")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3) and compiled.a == pytest.approx(plain.a, rel=1e-2)


@pytest.mark.parametrize("what", ["fusion", "branches", "attention", "whole"])
def test_trains_exactly_the_parts_that_are_asked_for(tmp_path, base, shards, what):
    train(config(trainable=what, steps=4, ema=0.0), base, shards, tmp_path / "s", tmp_path / "out")
    before = weights_of_base(base)
    moved = {name for name, value in weights(tmp_path / "out").items() if not torch.equal(value, before[name])}
    parts = {
        "a": any(name.endswith(".a") for name in moved),
        "branches": any("attentions_" in name for name in moved),
        "attention": any(name.startswith("unet") and ".attentions." in name for name in moved),
        "rest": any(name.startswith("unet") and ".attentions." not in name for name in moved),
    }
    order = ["fusion", "branches", "attention", "whole"].index(what)
    assert list(parts.values()) == [place <= order for place in range(4)]


def weights_of_base(base):
    pipe = VIPOutpaintPipeline.from_base(str(base))
    control = {f"control.{name}": value for name, value in pipe.control.state_dict().items()}
    return control | {f"unet.{name}": value for name, value in pipe.unet.state_dict().items()}


@pytest.mark.parametrize("changes", [{}, {"workers": 2}, {"cache_mb": 0, "accumulation": 2, "schedule": "cosine"}])
def test_an_interrupted_run_ends_bit_for_bit_like_an_undisturbed_one(tmp_path, base, shards, changes):
    class Stopped(Exception):
        pass

    def stop(progress):
        if progress.step == 5:
            raise Stopped

    train(config(**changes), base, shards, tmp_path / "one", tmp_path / "whole")
    with pytest.raises(Stopped):
        train(config(**changes), base, shards, tmp_path / "two", tmp_path / "again", stop)
    result = train(config(**changes), base, shards, tmp_path / "two", tmp_path / "again")
    assert result.resumed_from == 4
    assert equal(tmp_path / "whole", tmp_path / "again")
    assert (tmp_path / "whole/losses.parquet").read_bytes() == (tmp_path / "again/losses.parquet").read_bytes()


def test_a_run_that_was_interrupted_behind_its_last_step_writes_the_same_files(tmp_path, base, shards):
    for out in ("undisturbed", "again"):
        start = time.monotonic()
        result = train(config(), base, shards, tmp_path / "s", tmp_path / out)
    assert result.resumed_from == result.steps == 6
    assert result.seconds > time.monotonic() - start  # what the six steps took is told as well
    one, two = (
        {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        for folder in (tmp_path / "undisturbed", tmp_path / "again")
    )
    assert one == two and Path("pipeline/tokenizer/tokenizer.json") in one


def test_a_run_whose_hours_are_spent_keeps_its_state_and_the_next_one_goes_on(tmp_path, base, shards):
    train(config(), base, shards, tmp_path / "one", tmp_path / "whole")
    short = config(hours=1e-9, checkpoint_every=100)
    for step in range(1, 6):
        with pytest.raises(VipError, match=f"the budget of 1e-09 hours is spent at step {step} of 6"):
            train(short, base, shards, tmp_path / "two", tmp_path / "pieces")
    result = train(short, base, shards, tmp_path / "two", tmp_path / "pieces")
    assert result.resumed_from == 5
    assert equal(tmp_path / "whole", tmp_path / "pieces")
    assert short.params() == config().params()  # no cap changes what comes out, so none changes a key


def test_a_damaged_newest_state_costs_the_steps_behind_it_and_no_more(tmp_path, base, shards):
    train(config(), base, shards, tmp_path / "one", tmp_path / "whole")
    train(config(steps=4), base, shards, tmp_path / "two", tmp_path / "half")
    (newest,) = (tmp_path / "two").rglob("step-00000004/tensors.safetensors")
    newest.write_bytes(newest.read_bytes()[:-1])
    assert train(config(), base, shards, tmp_path / "two", tmp_path / "again").resumed_from == 2
    assert equal(tmp_path / "whole", tmp_path / "again")


def test_accumulated_batches_are_one_large_batch(tmp_path, base, shards):
    logs = []
    for name, changes in (("large", {"batch": 6}), ("accumulated", {"batch": 3, "accumulation": 2})):
        train(config(steps=3, **changes), base, shards, tmp_path / name, tmp_path / f"{name}-out")
        logs.append(pq.read_table(tmp_path / f"{name}-out" / "losses.parquet").to_pylist())
    for large, accumulated in zip(*logs, strict=True):
        assert large["samples"] == accumulated["samples"]
        assert large["loss"] == pytest.approx(accumulated["loss"], rel=1e-4)
        assert large["grad_norm"] == pytest.approx(accumulated["grad_norm"], rel=1e-3)


def test_a_finished_run_can_be_prolonged(tmp_path, base, shards):
    train(config(steps=4), base, shards, tmp_path / "s", tmp_path / "short")
    result = train(config(steps=6), base, shards, tmp_path / "s", tmp_path / "long")
    train(config(steps=6), base, shards, tmp_path / "other", tmp_path / "once")
    assert result.resumed_from == 4 and equal(tmp_path / "long", tmp_path / "once")


@pytest.mark.parametrize(("steps", "resumed"), [(3, 0), (4, 4), (5, 4)])
def test_a_shorter_run_after_a_longer_one_trains_no_step_too_many(tmp_path, base, shards, steps, resumed):
    train(config(), base, shards, tmp_path / "s", tmp_path / "long")
    result = train(config(steps=steps), base, shards, tmp_path / "s", tmp_path / "short")
    train(config(steps=steps), base, shards, tmp_path / "other", tmp_path / "once")
    assert (result.steps, result.resumed_from) == (steps, resumed)
    assert equal(tmp_path / "short", tmp_path / "once") and not equal(tmp_path / "short", tmp_path / "long")
    assert train(config(steps=7), base, shards, tmp_path / "s", tmp_path / "longer").resumed_from == 6


def test_another_config_does_not_go_on_from_this_state(tmp_path, base, shards):
    train(config(steps=4), base, shards, tmp_path / "s", tmp_path / "one")
    assert train(config(steps=4, lr=5e-4), base, shards, tmp_path / "s", tmp_path / "two").resumed_from == 0


def test_averaged_weights_are_what_is_saved(tmp_path, base, shards):
    train(config(ema=0.0), base, shards, tmp_path / "a", tmp_path / "raw")
    train(config(ema=0.9), base, shards, tmp_path / "b", tmp_path / "averaged")
    raw, averaged = weights(tmp_path / "raw"), weights(tmp_path / "averaged")
    assert set(raw) == set(averaged)
    name = next(name for name in raw if name.endswith("mid_block.a"))
    assert 0 < abs(averaged[name].item()) < abs(raw[name].item())
    losses = [
        pq.read_table(tmp_path / kind / "losses.parquet").column("loss").to_pylist() for kind in ("raw", "averaged")
    ]
    assert losses[0] == losses[1]


def test_goes_on_from_a_checkpoint_of_ours(tmp_path, base, shards):
    train(config(steps=3), base, shards, tmp_path / "s", tmp_path / "first")
    train(config(steps=3, seed=1), tmp_path / "first" / "pipeline", shards, tmp_path / "s2", tmp_path / "second")
    assert not equal(tmp_path / "first", tmp_path / "second")
    with pytest.raises(VipError, match="has branches cross_attention"):
        train(
            config(branches="key_value"), tmp_path / "first" / "pipeline", shards, tmp_path / "s3", tmp_path / "third"
        )


def test_a_general_mixture_trains(tmp_path, base):
    regions = (CentreRegion(), BrushRegion())
    mixed = write_shards(tmp_path / "d", images=6, regions=regions, dataset="one")
    mixed += write_shards(tmp_path / "d", images=6, regions=regions, dataset="two", seed=9)
    made = config(regime="glt", datasets={"one": 1, "two": 2}, regions={"centre-*": 1, "brush-*": 1}, steps=4)
    result = train(made, base, mixed, tmp_path / "s", tmp_path / "out")
    assert result.images == 12 and result.pairs == 24


def test_validation_grids_do_not_disturb_training(tmp_path, base, shards):
    grids = {"validation": {"every": 2, "samples": 2, "inference_steps": 2}}
    train(config(steps=4), base, shards, tmp_path / "a", tmp_path / "plain")
    train(config(steps=4, **grids), base, shards, tmp_path / "b", tmp_path / "watched")
    assert equal(tmp_path / "plain", tmp_path / "watched")
    names = sorted(path.name for path in (tmp_path / "b" / "validation").iterdir())
    assert names == ["step-00000002.png", "step-00000004.png"]


@pytest.mark.parametrize(
    "changes", [{"precision": "bf16"}, {"gradient_checkpointing": True, "trackers": ["tensorboard"]}]
)
def test_precision_checkpointing_and_trackers(tmp_path, base, shards, changes):
    result = train(config(steps=3, **changes), base, shards, tmp_path / "s", tmp_path / "out")
    assert result.final_loss == pytest.approx(1.0, abs=0.8)
    if "trackers" in changes:
        log = EventAccumulator(str(tmp_path / "s" / "logs" / "vip")).Reload()
        assert {"loss", "lr", "fusion_lr", "grad_norm", "a/mid_block"} <= set(log.Tags()["scalars"])
        assert [scalar.step for scalar in log.Scalars("a/mid_block")] == [1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "fp16"}, "fp16 needs a GPU"),
        ({"trackers": ["tensorbord"]}, "tensorbord is not installed.*tensorboard"),
    ],
)
def test_what_this_machine_cannot_do_is_refused_at_once(tmp_path, base, shards, monkeypatch, changes, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(VipError, match=message):
        train(config(**changes), base, shards, tmp_path / "s", tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"view": {"width": 36, "height": 34}}, "36x34 is not divisible by 4"),
        ({"branches": "other"}, "cross_attention"),
        ({"lerning_rate": 1}, "Extra inputs"),
        ({"warmup": 9}, "warmup 9 leaves nothing of 6 steps"),
        ({"validation": {"every": 100}}, "validation paints no pictures without samples; set samples"),
        ({"validation": {"prompts": [["wolf", "sea"]]}}, "validation paints no pictures without samples"),
        ({"validation": {"samples": 2, "seed": 2**70}}, "seed"),
        ({"regions": {"centre-0.5": 0}}, "must be above 0"),
        ({"regions": {"a": 1, "b": 1}}, "set regime: glt"),
    ],
)
def test_bad_configs_say_what_to_change(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_a_base_that_is_none_is_refused_in_one_line(tmp_path, shards):
    with pytest.raises(VipError, match=r"model_index\.json cannot be read") as caught:
        train(config(), tmp_path, shards, tmp_path / "s", tmp_path / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one(tmp_path, base, shards):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    found = {}
    for processes, batch in ((1, 6), (2, 3)):
        job = TrainJob(
            config=config(batch=batch, trainable="whole", accumulation=1),
            base_dir=str(base),
            shards=tuple(shards),
            scratch=str(tmp_path / f"scratch-{processes}"),
            out_dir=str(tmp_path / f"out-{processes}"),
        )
        path = tmp_path / f"job-{processes}.json"
        path.write_text(job.model_dump_json())
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        script = [str(Path(__file__).with_name("gradient.py")), str(path)]
        subprocess.run(command + script, check=True, env={**environment, "PYTHONPATH": str(Path.cwd())}, timeout=300)
        found[processes] = load_file(tmp_path / f"out-{processes}" / "gradient.safetensors")
    one, two = found[1], found[2]
    keys = [torch.cat([two[f"keys.{rank}"] for rank in (0, 1)]), one["keys.0"]]
    assert torch.equal(*[value.sort(dim=0).values for value in keys]) and len({*keys[1].tolist()}) == 6
    names = [name for name in one if name.startswith("gradient.")]
    assert len(names) > 100
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in names)


@pytest.mark.slow
def test_two_processes_train_and_agree_with_one(tmp_path, base, shards):
    assert start(tmp_path, base, shards, config(batch=3, steps=4), "two", processes=2).wait(300) == 0
    result = json.loads((tmp_path / "progress.jsonl").read_text().splitlines()[-1])
    assert (result["steps"], result["samples"]) == (4, 24)
    train(config(batch=6, steps=4), base, shards, tmp_path / "s", tmp_path / "one")
    losses = [pq.read_table(tmp_path / name / "losses.parquet").column("loss").to_pylist() for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def start(folder, base, shards, made, out, processes=1):
    job = TrainJob(
        config=made,
        base_dir=str(base),
        shards=tuple(shards),
        scratch=str(folder / "scratch"),
        out_dir=str(folder / out),
        progress=str(folder / "progress.jsonl"),
    )
    (folder / "job.json").write_text(job.model_dump_json())
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    command = [sys.executable, *launcher, "-m", "vip.diffusion.train", "--job", str(folder / "job.json")]
    return subprocess.Popen(
        command, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    )


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_sigkill_and_resume_give_the_undisturbed_weights(tmp_path, base, shards, workers):
    made = config(steps=16, checkpoint_every=3, workers=workers)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    assert start(whole, base, shards, made, "out").wait(300) == 0
    process = start(killed, base, shards, made, "out")
    progress, deadline = killed / "progress.jsonl", time.monotonic() + 200
    while not progress.exists() or len(progress.read_text().splitlines()) < 7:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "out").exists()
    assert start(killed, base, shards, made, "out").wait(300) == 0
    result = json.loads(progress.read_text().splitlines()[-1])
    assert result["resumed_from"] >= 6 and result["steps"] == 16
    assert equal(whole / "out", killed / "out")
    assert (whole / "out/losses.parquet").read_bytes() == (killed / "out/losses.parquet").read_bytes()


def test_a_base_stored_in_half_precision_is_trained_in_float32(tmp_path, base):
    StableDiffusionInpaintPipeline.from_pretrained(base, dtype=torch.float16).save_pretrained(tmp_path)
    pipe = load_pipeline(str(tmp_path), config())
    kinds = {
        value.dtype for part in (pipe.unet, pipe.vae, pipe.text_encoder, pipe.control) for value in part.parameters()
    }
    assert kinds == {torch.float32}


def test_the_size_of_the_cache_is_in_no_key():
    assert config(cache_mb=64).params() == config().params() == config(cache_mb=0, precompute=("latents",)).params()
    assert config().params()["cache_mb"] == 512  # as in the keys of checkpoints that are there
    assert config(cache_mb=0).params() != config().params()  # a batch encoded as a whole has other last bits


def test_a_base_that_predicts_the_picture_itself_is_refused_and_never_taught_the_noise(tmp_path):
    write_base(tmp_path)
    path = tmp_path / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "sample"}))
    with pytest.raises(VipError, match="predicts 'sample', which is not trained here; set prediction: epsilon"):
        load_pipeline(str(tmp_path), config())
    assert load_pipeline(str(tmp_path), config(prediction="epsilon")).scheduler.config["prediction_type"] == "epsilon"


def test_a_checkpoint_is_trained_on_as_it_will_be_used(tmp_path, base):
    VIPOutpaintPipeline.from_base(str(base), mask_mode="nearest", prompt_style="plain").save_pretrained(tmp_path)
    with pytest.raises(VipError, match=r"has mask_mode nearest, the config says area; set mask_mode: nearest"):
        load_pipeline(str(tmp_path), config())
    with pytest.raises(VipError, match=r"has prompt_style plain, the config says labelled"):
        load_pipeline(str(tmp_path), config(mask_mode="nearest"))
    load_pipeline(str(tmp_path), config(mask_mode="nearest", prompt_style="plain"))
