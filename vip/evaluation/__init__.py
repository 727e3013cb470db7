"""Evaluation: samples, features, distances, intervals; every figure bound to the exam it comes from."""
