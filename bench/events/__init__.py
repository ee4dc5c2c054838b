"""Ring-buffer events delivered to Python."""
