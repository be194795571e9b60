"""What reads an AnnData or makes one."""
