"""Outpaint: continue one picture, of any size, with a trained pipeline."""
