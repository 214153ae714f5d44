# Sourced by the package's scripts: what this package's program made in users' homes. All of it is done as
# that user, so that nobody's links lead root anywhere.

each_user() { # a function, called with a user's name and home
  getent passwd | while IFS=: read -r name _ uid _ _ home _; do
    if [ "$uid" -eq 0 ] || { [ "$uid" -ge 1000 ] && [ "$uid" -lt 60000 ]; }; then
      [ -d "$home" ] && "$1" "$name" "$home"
    fi
  done
}

as_user() { # name, command…
  name=$1
  shift
  runuser -u "$name" -- "$@" </dev/null || true
}

end_programs() { # name, home: what runs from the environment; nodes end their workers themselves
  if [ -d "$2/.local/share/idlebloom/env" ]; then
    pkill -u "$1" -f "^$2/.local/share/idlebloom/env/bin/python" || true
    sleep 2
    pkill -KILL -u "$1" -f "^$2/.local/share/idlebloom/env/bin/python" || true
  fi
}

remove_program() {
  [ -e "$2/.local/share/idlebloom" ] && as_user "$1" rm -rf -- "$2/.local/share/idlebloom"
  [ -e "$2/.config/autostart/idlebloom.desktop" ] &&
    as_user "$1" rm -f -- "$2/.config/autostart/idlebloom.desktop"
  return 0
}

remove_data() {
  for folder in .config .local/state .cache; do
    [ -e "$2/$folder/idlebloom" ] && as_user "$1" rm -rf -- "$2/$folder/idlebloom"
  done
  return 0
}
