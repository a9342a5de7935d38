"""Which rows an epoch has, and in which batch each of them is. Integers only."""
