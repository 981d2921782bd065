"""What compression costs in quality, on screen."""
