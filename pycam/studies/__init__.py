"""What is measured beside the paper's pipeline: maps held against lesion masks, the deletion curve, control boxes."""
