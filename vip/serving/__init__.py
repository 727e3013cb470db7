"""A real vLLM as a subprocess of ours, and who it is that answers."""
