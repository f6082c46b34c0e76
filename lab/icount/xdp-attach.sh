#!/bin/bash
# xdp-attach.sh DIRECTOR_NS IN_IF OUT_IF: ELVS as the bench's director, for the UDP service 10.0.0.100:5000 with four real servers.
# Called in the guest by the bench job, on a fresh topology. $XDPOBJ says what is wanted: elvs-dr, elvs-nat or elvs-tun, with
# `+daemon` behind it when the daemon is to stay (else it is killed, and the pinned programs forward alone).
# $XDPSINK (env.sh) says where the real servers are: behind IN_IF (gen0, the frame goes back out: XDP_TX) or OUT_IF (sink0: redirect).
set -eu
cd "$(dirname "$0")"
for f in env.sh elvs.env; do [ ! -f $f ] || . ./$f; done
ns=$1; in=$2; out=$3; want=${XDPOBJ:-elvs-dr}
method=${want#elvs-}; method=${method%+daemon}
dir=/run/elvs-icount; mkdir -p $dir

# The daemon before this one, its pins and its state. What it forwarded for is gone with the topology.
if [ -f $dir/pid ]; then kill -9 "$(cat $dir/pid)" 2>/dev/null || true; rm $dir/pid; fi
rm -rf /sys/fs/bpf/elvs/icount /var/lib/elvs/icount /run/elvs/icount $dir/sock

if [ "${XDPSINK:-gen0}" = gen0 ]; then dev=$in; net=10.0.0; else dev=$out; net=10.1.0; fi
{
  [ -z "${CONNECTIONS:-}" ] || echo "data_plane { connections $CONNECTIONS }"
  echo "virtual_server 10.0.0.100 5000 {"
  echo "  protocol UDP"; echo "  lvs_sched ${SCHEDULER:-rr}"; echo "  lvs_method ${method^^}"
  for k in 21 22 23 24; do echo "  real_server $net.$k 5000 {"; echo "    weight 1"; echo "  }"; done
  echo "}"
} > $dir/elvs.conf
for k in 21 22 23 24; do ip -n "$ns" neigh replace $net.$k lladdr 02:00:00:00:01:$k dev "$dev"; done

# Not `ip netns exec`: it gives the process a /sys of its own, and the pins would end with the process.
export LD_LIBRARY_PATH=$PWD/lib
nsenter --net="/run/netns/$ns" ./elvs --socket $dir/sock run -f $dir/elvs.conf --instance icount > $dir/log 2>&1 &
echo $! > $dir/pid
# Under emulation the verifier takes its time over two dozen programs.
for _ in $(seq 3000); do
  grep -q ' ready ' $dir/log && break
  kill -0 "$(cat $dir/pid)" 2>/dev/null || break
  sleep 0.1
done
grep -q ' ready ' $dir/log || { echo "elvs did not start:"; cat $dir/log; exit 1; }
ip -n "$ns" -d link show "$dev" | grep -q xdp || { echo "no program on $dev:"; cat $dir/log; exit 1; }
case $want in *+daemon) ;; *) kill -9 "$(cat $dir/pid)"; rm $dir/pid ;; esac
cp $dir/log /out/elvs.log
