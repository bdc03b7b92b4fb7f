"""Grids of runs: read from a file, run here or on a Ray cluster, put into one table.

Empty on purpose: every cell's process starts in this room (``child.py``), and should load nothing that it does not need.
"""
