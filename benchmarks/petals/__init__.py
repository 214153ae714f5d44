"""The registry's ``petals`` beside us: its own environment, servers, client and loop, on our weights."""
