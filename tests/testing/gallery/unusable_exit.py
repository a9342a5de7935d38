"""A script that ends as it is imported."""

raise SystemExit(0)
