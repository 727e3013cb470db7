"""Views and regions: one renderer for captioning, training, evaluation and outpainting."""
