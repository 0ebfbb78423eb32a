"""The experiments: one file each, read from top to bottom."""
