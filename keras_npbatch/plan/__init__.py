"""Which rows an epoch has, and which batch each of them is in. Integers only."""
