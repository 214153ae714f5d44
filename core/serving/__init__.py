"""A donor's side: engine, sessions, worker process."""
