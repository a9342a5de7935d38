"""Which process this is, out of how many, and whether all of them agree."""
