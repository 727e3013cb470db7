"""Claim: does decoupled control do what the paper says? The same data, captions and steps for every arm."""
