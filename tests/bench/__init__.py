"""`python -m tests.bench`: measures, and writes tests/bench/RESULTS.md. A bench never asserts a time.

Every ratio comes from one run in which the ways that are compared take turns, several rounds, medians: the
machine is shared and its speed drifts.
"""
