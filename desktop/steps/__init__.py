"""The steps of the first run, a page each, and the demo that the first of them starts."""
