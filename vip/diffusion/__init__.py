"""C-T-S: outpainting controlled by a centre and a surrounding text, on stock diffusers modules."""
