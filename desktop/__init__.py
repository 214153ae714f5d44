"""The tray and its windows."""
