"""From a request to cells: numbers per type, codes, counts, AnnData or file."""
