"""Run by torchrun: one backward pass of a job, its gradient written by the first process."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather
from safetensors.torch import save_file

from schemas.training import TrainJob
from vip.diffusion.batches import Batches
from vip.diffusion.census import take_census
from vip.diffusion.encode import Encoder
from vip.diffusion.job import read_job
from vip.diffusion.learner import Learner
from vip.diffusion.load import load_pipeline
from vip.diffusion.train import shape_of

job = read_job(Path(sys.argv[1]), TrainJob)
accelerator = Accelerator(cpu=True)
pipe = load_pipeline(job.base_dir, job.config)
for _, a in pipe.control.fusion():
    torch.nn.init.constant_(a, 0.4)
census = take_census(job.shards, job.config)
rank, world = accelerator.process_index, accelerator.num_processes
stream = Batches(job.shards, census, job.config, shape_of(pipe, job.config), rank=rank, world=world)
encoder = Encoder(pipe.vae, pipe.tokenizer, pipe.text_encoder, accelerator.device, job.config.cache_mb)
learner = Learner(pipe, job.config, accelerator)
batch = next(iter(stream))
accelerator.backward(learner.loss(batch, encoder(batch)))
keys = gather(torch.tensor([int(key[0][:12], 16) for key in batch.keys]))
if accelerator.is_main_process:
    Path(job.out_dir).mkdir(parents=True)
    tensors = {f"keys.{place}": part.clone() for place, part in enumerate(keys.chunk(world))}
    tensors |= {f"gradient.{name}": value.grad for name, value in pipe.controlled.named_parameters()}
    save_file(tensors, Path(job.out_dir) / "gradient.safetensors")
accelerator.end_training()
