"""Where the codes of generated cells come from."""
