"""A reader's side: routes, the ring's client, answers."""
