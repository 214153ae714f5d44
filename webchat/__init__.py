"""The chat page, the APIs and the local door."""
