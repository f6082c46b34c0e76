#!/bin/bash
# run.sh PEER_LAB OUT [ELVS_BINARY]: instructions per packet of ELVS beside IPVS; README.md here explains.
# env: WHAT (default: elvs-dr elvs-dr+daemon elvs-dr+others elvs-nat elvs-tun elvs-gue elvs-fullnat), XDPSINK (gen0: XDP_TX, sink0: redirect), NPK, NEW, SCHEDULER, CONNECTIONS,
#      IPVS=1 (measures IPVS too), DUMP=1 (leaves the programs' machine code in OUT), FULL=1 (the peer lab's whole job instead of ours)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); peer=$1; out=$2; elvs=${3:-$here/../../target/release/elvs}
stage=$(mktemp -d); trap 'rm -rf "$stage"' EXIT
mkdir "$stage/lib"
strip -o "$stage/elvs" "$elvs"
# The guest has a libc of the same Debian release; what else the binary needs goes along.
for library in $(ldd "$elvs" | awk '$3 ~ /^\// {print $3}' | grep -v '/libc\.so'); do cp -L "$library" "$stage/lib/"; done
install -m755 "$here/xdp-attach.sh" "$stage/"
cp "$peer/jobs/bench/run.sh" "$stage/job-bench.sh"
[ -n "${FULL:-}" ] || cp "$here/job.sh" "$stage/"
for name in NEW SCHEDULER CONNECTIONS IPVS DUMP; do [ -z "${!name:-}" ] || printf '%s=%q\n' $name "${!name}"; done > "$stage/elvs.env"
EXTRA_DIR=$stage XDPOBJS=${WHAT:-elvs-dr elvs-dr+daemon elvs-dr+others elvs-nat elvs-tun elvs-gue elvs-fullnat} XDPSINK=${XDPSINK:-gen0} "$peer/bench/run-icount.sh" "$out"
