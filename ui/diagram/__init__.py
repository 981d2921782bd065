"""The block diagram of an architecture: what flows where is traced from the parts themselves, then laid out, then drawn."""
