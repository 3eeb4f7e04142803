"""Training: sources of pairs, losses, recipes, the loop."""
