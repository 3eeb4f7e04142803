"""Benchmarks (`lowlight bench`): data sets, classical baselines, measurement, paired intervals, reports."""
