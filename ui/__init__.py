"""The window onto the engine: PySide6 and pyqtgraph. Panels talk to torch only through the session and its events."""
