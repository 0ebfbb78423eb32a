"""Races against other people's programs, and how cost grows: `make bench` runs them and writes RESULTS.md."""
