"""Measurements whose figures are ratios in one run."""
