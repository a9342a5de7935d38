"""Batches in the terms of each framework: one module a framework, imported when it is used."""
