"""Measurements outside the paper's pipeline: maps compared with lesion masks, the deletion curve, control boxes."""
