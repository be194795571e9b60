"""What a trained model takes from its training cells before it generates."""
