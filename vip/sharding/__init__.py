"""Sharding: a source of images becomes shards and a dataset."""
