"""A drawn world whose truth is known, and small models trained on it: the embedded default."""
