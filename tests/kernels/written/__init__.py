"""Programs in Python for what the machine's own kernel lacks: built with the types of another, run there."""
