"""Benchmarks of keras_npbatch: one question a module, answered in ratios within one run.

    python -m benchmarks --help

README.md tells what each question measures and how to read the answer.
"""
