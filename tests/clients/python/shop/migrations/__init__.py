"""What `migrate` runs."""
