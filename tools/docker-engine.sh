#!/bin/bash
# A Docker engine in a folder, for tests, with a registry that stands in for the public one: Debian's packages, unpacked and
# started on a socket of their own. No package is installed and no setting of the machine changes; `stop` removes all of it.
set -euo pipefail

PACKAGES="docker.io containerd runc docker-registry mmdebstrap"
APT_SETTINGS='Acquire::GzipIndexes "true"; Acquire::Languages "none"; Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";'

usage() {
  cat <<'TEXT'
usage: tools/docker-engine.sh start FOLDER    FOLDER/bin/docker speaks to the engine, which uses this machine's network to build;
                                              FOLDER/registry.address: what is pushed there is pulled by its public name
       tools/docker-engine.sh base FOLDER SUITE NAME    give it a small Debian (bullseye, bookworm) under an image's name
       tools/docker-engine.sh stop FOLDER     end the engine and remove FOLDER
       tools/docker-engine.sh check           say in one line why an engine cannot be started here; exit 1 then

example: tools/docker-engine.sh start /tmp/engine && tools/docker-engine.sh base /tmp/engine bullseye debian:11-slim

variable: DEBIAN_MIRROR  address of a Debian mirror; default: the one that this system's apt uses for Debian
TEXT
}

fail() {
  echo "error: $*" >&2
  exit 1
}

mirrors() { # the address of the releases, then that of the security updates
  if [ -n "${DEBIAN_MIRROR:-}" ]; then
    printf '%s\n' "$DEBIAN_MIRROR" "${DEBIAN_MIRROR%/}-security"
  else
    # shellcheck disable=SC2016  # apt fills these in, not the shell
    apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' | sed -n 's/^Debian //p' | sort -u
  fi
}

check() {
  [ "$(id -u)" = 0 ] || fail "an engine is started by root only"
  for program in apt-get dpkg-deb dpkg perl; do
    command -v "$program" >/dev/null || fail "$program not found: an engine is made of Debian's packages"
  done
  unshare --mount --net true 2>/dev/null || fail "root has no privilege here to mount and to make networks, which containers need"
  [ "$(dpkg --print-architecture)" = amd64 ] || fail "this machine is $(dpkg --print-architecture), the images are for amd64"
  [ -n "$(mirrors)" ] || fail "apt knows no Debian mirror here: apt-get update, or set DEBIAN_MIRROR"
}

unpack() { # DIR/engine: the programs
  mkdir -p "$dir/debs" "$dir/engine" "$dir/bin"
  apt-get -qq update || fail "apt-get cannot update its lists"
  # shellcheck disable=SC2086  # a list of words
  (cd "$dir/debs" && apt-get -qq download $PACKAGES 2>/dev/null) || fail "apt-get cannot download $PACKAGES"
  for deb in "$dir"/debs/*.deb; do dpkg-deb -x "$deb" "$dir/engine"; done
  rm -r "$dir/debs"
}

launch_registry() {
  local port=5000
  while (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  echo "127.0.0.1:$port" >"$dir/registry.address"
  cat >"$dir/registry.yml" <<TEXT
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $dir/registry}}
http: {addr: "127.0.0.1:$port"}
TEXT
  "$dir/engine/usr/bin/docker-registry" serve "$dir/registry.yml" >"$dir/registry.log" 2>&1 </dev/null &
  echo $! >"$dir/registry.pid"
}

outside() { # what dockerd and containerd make elsewhere, whatever folders they are given
  printf '%s\n' /etc/docker /run/docker /run/containerd /opt/containerd
  printf '%sdocker\n' /sys/fs/cgroup/ /sys/fs/cgroup/*/
}

launch_engine() { # without a bridge, so that no network setting is touched: a build uses the machine's network, a container has none
  outside | while read -r path; do [ -e "$path" ] || echo "$path"; done >"$dir/made"
  PATH=$dir/engine/usr/bin:$dir/engine/usr/sbin:$PATH dockerd --data-root "$dir/data" --exec-root "$dir/exec" \
    --pidfile "$dir/pid" --host "unix://$dir/docker.sock" --bridge=none --iptables=false --ip6tables=false --ip-forward=false \
    --ip-masq=false --registry-mirror="http://$(cat "$dir/registry.address")" >"$dir/log" 2>&1 </dev/null &
  cat >"$dir/bin/docker" <<TEXT
#!/bin/sh
export DOCKER_HOST=unix://$dir/docker.sock DOCKER_CONFIG=$dir/config/\$(id -u)
[ "\$1" != build ] || { shift; set -- build --network host "\$@"; }
exec $dir/engine/usr/bin/docker "\$@"
TEXT
  chmod 755 "$dir/bin/docker"
  mkdir -m 1777 "$dir/config" # each user's settings apart, and none in a home folder
  for _ in $(seq 120); do
    ! "$dir/bin/docker" info >/dev/null 2>&1 || break
    sleep 0.5
  done
  "$dir/bin/docker" info >/dev/null 2>&1 || fail "the engine does not answer: $(grep -v level=info "$dir/log" | tail -n 1)"
  chmod 666 "$dir/docker.sock" # the tests act as another user, too
}

start() {
  check
  mkdir -m 755 "$dir" 2>/dev/null || [ -z "$(ls -A "$dir")" ] || fail "$dir is not empty: give another folder"
  unpack
  launch_registry
  launch_engine
}

base() { # SUITE NAME
  local addresses sources=()
  addresses=$(mirrors)
  for address in $addresses; do
    case $address in
      *security*) sources+=("deb $address $1-security main") ;;
      *) sources+=("deb $address $1 main" "deb $address $1-updates main") ;;
    esac
  done
  PATH=$dir/engine/usr/bin:$PATH mmdebstrap --quiet --variant=minbase --architectures=amd64 --aptopt="$APT_SETTINGS" \
    --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --customize-hook='rm -f "$1"/var/cache/apt/*.bin' "$1" "$dir/$1.tar" "${sources[@]}" 2>"$dir/$1.said" ||
    fail "no $1 from $(echo $addresses) ($(head -n 1 "$dir/$1.said")): set DEBIAN_MIRROR to a mirror that has it"
  "$dir/bin/docker" import -c 'CMD ["bash"]' -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    "$dir/$1.tar" "$2" >/dev/null || fail "the engine cannot take $2 (reason above)"
  rm "$dir/$1.tar"
}

stop() { # and see that nothing stays
  local pid made="" left
  for pid in $(cat "$dir/registry.pid" "$dir/pid" 2>/dev/null); do
    kill "$pid" 2>/dev/null && tail --pid="$pid" -f /dev/null
  done
  umount -q "$dir"/exec/netns/* 2>/dev/null || true
  [ ! -e "$dir/made" ] || made=$(cat "$dir/made")
  for path in $made; do
    case $path in
      /sys/*) find "$path" -depth -type d -exec rmdir {} + 2>/dev/null || true ;;
      *) rm -rf "$path" ;;
    esac
  done
  rm -rf "$dir"
  # shellcheck disable=SC2086  # a list of words
  left=$(ls -d "$dir" $made 2>/dev/null; grep -F "$dir/" /proc/mounts) || true
  [ -z "$left" ] || fail "of the engine these stay: $(echo $left)"
}

dir=${2:-}
case "$#:${1:-}" in
  1:-h | 1:--help) usage ;;
  1:check) check ;;
  2:start | 2:stop) dir=$(realpath -m -- "$2") && "$1" ;;
  4:base) dir=$(realpath -m -- "$2") && base "$3" "$4" ;;
  *) usage >&2; exit 2 ;;
esac
