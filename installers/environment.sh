# The virtual environment that ./run and ./test share. Sourced, with `here` set to the source tree.
#
# What is set up is marked by a stamp in the environment: a hash of all it was made from. So a second
# start costs one hash, a changed pin is installed at the next start, and an interrupted setup, which
# left no stamp, goes on where it stopped.

venv=${IDLEBLOOM_VENV:-$here/.venv}
marks=$venv/.idlebloom

say() { printf '%s\n' "$*" >&2; }
die() {
  say "idlebloom: $*"
  exit 1
}

fingerprint() { # what for: run or test
  { echo "$here" && cat "$here/constraints.txt" "$here/pyproject.toml"; } | sha256sum | cut -c1-64
}

is_set_up() { # run|test; a test environment can do all that a run one can
  [[ -x $venv/bin/idlebloom ]] || return 1
  local now mark
  now=$(fingerprint)
  for mark in "$marks/test" "$marks/$1"; do
    [[ -r $mark && $(<"$mark") == "$now" ]] && return 0
  done
  return 1
}

set_up() { # run|test
  is_set_up "$1" && return
  local target=$here torch=torch==2.13.0 quiet=() python
  [[ $1 == test ]] && target="$here[test]"
  [[ -t 2 ]] || quiet=(-qq --progress-bar off)

  require_python
  say "Idlebloom sets itself up in $venv"
  say "  found   $("$python" --version), $(driver_words), $(df -h --output=avail "$here" | tail -1 | tr -d ' ') of disk free"
  missing_libraries
  make_venv "$python"
  if compgen -G "$venv/lib/python*/site-packages/torch-${torch##*=}*.dist-info" >/dev/null; then
    say "  has     PyTorch; fetches what is missing or has changed"
  elif ! has_driver && pip_offers "$torch+cpu"; then
    torch=$torch+cpu
    say "  fetches PyTorch's CPU build (0.2 GB) and what else is needed (0.4 GB): 2 to 5 minutes, 2 GB of disk"
  else
    say "  fetches PyTorch's CUDA build (about 3 GB) and what else is needed (0.4 GB): 5 to 20 minutes, 8 GB of disk"
  fi

  # PyTorch alone and first: a request together with the rest may choose another of its builds.
  step 1 "PyTorch" "${quiet[@]}" "$torch"
  step 2 "all other packages" "${quiet[@]}" -c "$here/constraints.txt" -e "$target"
  mkdir -p "$marks"
  fingerprint >"$marks/$1"
  say "  done in $SECONDS s"
}

step() { # number, what, pip's arguments
  say "  [$1/2]   $2"
  "$venv/bin/python" -m pip install --disable-pip-version-check "${@:3}" >&2 ||
    die "fetching $2 failed, see above. Start the same command again: it goes on where it stopped."
}

require_python() { # sets python
  local name
  for name in ${IDLEBLOOM_PYTHON:-python3.11 python3.12 python3.13 python3}; do
    python=$(command -v "$name") || continue
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
      install_system "$(basename "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')")"
    fi
    return
  done
  die "Python 3.11 or newer is needed and was not found. Install it: sudo apt install python3 python3-venv"
}

make_venv() { # python
  "$venv/bin/python" -m pip --version &>/dev/null && return
  [[ ! -e $venv || -e $venv/pyvenv.cfg || -z $(ls -A "$venv") ]] ||
    die "$venv is in the way: it is no virtual environment. Move it, or set IDLEBLOOM_VENV to another folder."
  "$1" -m venv --clear "$venv" || die "the virtual environment $venv could not be made, see above."
}

has_driver() { [[ -e /proc/driver/nvidia/version ]] || nvidia-smi -L &>/dev/null; }

driver_words() { if has_driver; then echo "an NVIDIA driver"; else echo "no NVIDIA driver"; fi; }

pip_offers() { # a requirement
  "$venv/bin/python" -m pip install --disable-pip-version-check -qq --dry-run --no-deps "$1" &>/dev/null
}

# With CI=true and as root they are installed; else they become one line to type.
install_system() { # Debian packages
  if [[ ${CI:-} == true && $(id -u) == 0 ]]; then
    say "  installs $*"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } \
      >/dev/null || die "apt-get could not install $*, see above."
  else
    die "this system lacks something. Install it, then start again: sudo apt install $*"
  fi
}

# What Qt needs of a desktop, said but not demanded: the chat page works without.
missing_libraries() {
  [[ -n ${DISPLAY:-}${WAYLAND_DISPLAY:-} ]] || return 0
  local pair have missing=()
  have=$(ldconfig -p 2>/dev/null || /sbin/ldconfig -p) || return 0
  for pair in libGL.so.1:libgl1 libEGL.so.1:libegl1 libdbus-1.so.3:libdbus-1-3 \
    libfontconfig.so.1:libfontconfig1 libxkbcommon.so.0:libxkbcommon0 libxcb-cursor.so.0:libxcb-cursor0 \
    libxcb-icccm.so.4:libxcb-icccm4 libxcb-keysyms.so.1:libxcb-keysyms1 libxcb-shape.so.0:libxcb-shape0 \
    libxcb-xkb.so.1:libxcb-xkb1 libxkbcommon-x11.so.0:libxkbcommon-x11-0; do
    [[ $have == *"${pair%%:*}"* ]] || missing+=("${pair##*:}")
  done
  [[ ${#missing[@]} == 0 ]] || say "  lacks   for a window on this desktop: sudo apt install ${missing[*]}"
}
