"""Ways to add cells of a rare type, and the trial that compares them."""
