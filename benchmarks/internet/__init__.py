"""An internet in user space: hosts as network namespaces, one process that carries their packets."""
