"""Report: one self-contained page that shows what a run made, and from what."""
