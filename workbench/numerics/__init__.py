"""Pure tensor functions: attention over stored keys and values, and (later) packing, rotations and codebooks."""
