"""Which process of how many this is, and whether all of them agree."""
