"""The Django application of the matrix: two tables that were there before, and one of its own."""
