"""Exports: the lineage and the data in the formats of other tools."""
