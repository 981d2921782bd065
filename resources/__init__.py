"""Data files of the workbench; found with `importlib.resources.files("resources")`, installed or from a checkout."""
