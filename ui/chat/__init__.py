"""The chat's own parts. `ui.panels.chat` puts them together; nothing here knows another panel."""
