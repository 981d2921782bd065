"""LLM Workbench: see what the architectural decisions inside a language model do, on your own machine.

Importing this package imports neither torch nor Qt; each room is imported by name when it is needed.
"""

__version__ = "0.1.0"
