"""The KV cache on screen: its settings, what it holds slot by slot, what it would take."""
