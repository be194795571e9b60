"""Combinations that are held out, and how well they are predicted."""
