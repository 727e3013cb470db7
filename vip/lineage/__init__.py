"""Lineage: where every caption and every number came from, read from the manifests alone."""
