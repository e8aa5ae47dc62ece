#!/bin/sh
# Install Debian or Ubuntu packages in an image: sh install-packages.sh PACKAGE ...
#
# DEBIAN_MIRROR replaces the addresses in the base's own list of sources, that of the security updates by DEBIAN_MIRROR with
# -security behind it, as mirrors have it. A mirror that is named may be an archive, whose lists have expired.
set -eu

fail() {
  echo "error: $*" >&2
  exit 1
}

sources=${SOURCES:-/etc/apt}
mirror=${DEBIAN_MIRROR:-}
mirror=${mirror%/}
if [ -n "$mirror" ]; then
  find "$sources" \( -name '*.list' -o -name '*.sources' \) -exec sed -i -E \
    "s#(https?|ftp)://[^] ]*/debian-security/?#$mirror-security#; s#(https?|ftp)://[^] ]*/debian/?( |\$)#$mirror\2#" {} +
fi
valid=Acquire::Check-Valid-Until=$([ -z "$mirror" ] && echo true || echo false)
export DEBIAN_FRONTEND=noninteractive
apt-get -q -o "$valid" --error-on=any update ||
  fail "no list of packages from ${mirror:-the mirrors of the base image} (reason above): check the network, or build with" \
    "DEBIAN_MIRROR= set to a mirror that has this release, such as Debian's archive of old releases"
apt-get -q install -y --no-install-recommends "$@" || fail "apt-get cannot install (reason above): build again, or with another DEBIAN_MIRROR"
apt-get clean # not every base image has the setting that does it
rm -rf /var/lib/apt/lists/*
