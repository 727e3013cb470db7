"""What the pipeline does: captioning, regions, diffusion, evaluation, lineage, nano. Never imports prefect."""
