"""How real synthetic cells are: cells, measures, diagnostics, table and verdict."""
