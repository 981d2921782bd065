"""The chat with two settings side by side."""
