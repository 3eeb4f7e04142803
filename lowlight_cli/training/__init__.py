"""Training of networks: sources of pairs, synthesis of dark pictures, losses, recipes, and the loop."""
