"""The pieces of the architecture panel: the model picker, the figures at its head, the table of costs."""
