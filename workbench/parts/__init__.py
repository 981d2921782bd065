"""The parts of a decoder block. Each takes flat arguments and never asks which kind it is."""
