#!/bin/sh
# The driver's libraries are Windows' own and lie here in WSL2. The desktop is on Windows' side.
export LD_LIBRARY_PATH=/usr/lib/wsl/lib
# Secrets are in Windows' keyring: the tray hands them to the node, and none is written here.
export IDLEBLOOM_SECRETS=handed
unset DISPLAY WAYLAND_DISPLAY
exec /usr/bin/python3 -I /usr/lib/idlebloom/launch.py "$@"
