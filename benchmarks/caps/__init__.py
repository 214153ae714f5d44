"""Caps on traffic, checked from outside: what the interface carried, against what the owner allowed."""
