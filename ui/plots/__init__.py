"""Live plots: growing series (Qt-free) and the widget that draws them."""
