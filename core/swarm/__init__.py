"""Peers: identities, records, streams, frames. The only package that imports hivemind."""
