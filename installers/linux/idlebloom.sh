#!/bin/sh
exec /usr/bin/python3 -I /usr/lib/idlebloom/launch.py "$@"
