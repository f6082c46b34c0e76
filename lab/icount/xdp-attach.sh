#!/bin/bash
# xdp-attach.sh DIRECTOR_NS IN_IF OUT_IF: ELVS as the bench's director, for the UDP service 10.0.0.100:5000 with four real servers.
# Called in the guest by the bench job, on a fresh topology. $XDPOBJ says what is wanted: elvs-METHOD with METHOD one of dr, nat, tun, gue, gre and
# fullnat, then any of
#   +daemon   the daemon stays (else it is killed, and the pinned programs forward alone)
#   +mark     the service is by firewall mark        +persist  it is persistent
#   +others   services of IPv6, by full NAT, tunnels and persistent ones lie beside it        +marks  so does one by firewall mark
# $XDPSINK (env.sh) says where the real servers are: behind IN_IF (gen0, the frame goes back out: XDP_TX) or OUT_IF (sink0: redirect).
set -eu
cd "$(dirname "$0")"
for f in env.sh elvs.env; do [ ! -f $f ] || . ./$f; done
ns=$1; in=$2; out=$3; want=${XDPOBJ:-elvs-dr}
wants() { case $want+ in *+"$1"+*) return 0 ;; *) return 1 ;; esac; }
method=${want#elvs-}; method=${method%%+*}; extra=${want#"elvs-$method"}
for word in ${extra//+/ }; do
  case $word in daemon|mark|persist|others|marks) ;; *) echo "$want: +$word is none of +daemon +mark +persist +others +marks"; exit 1 ;; esac
done
case $method in
  dr|nat|tun) words=${method^^} ;;
  gue) words="TUN type gue port 5555" ;;
  gre) words="TUN type gre" ;;
  fullnat) words=FNAT ;;
  *) echo "$want: $method is none of dr nat tun gue gre fullnat"; exit 1 ;;
esac
dir=/run/elvs-icount; mkdir -p $dir

# The daemon before this one, its pins and its state. What it forwarded for is gone with the topology.
if [ -f $dir/pid ]; then kill -9 "$(cat $dir/pid)" 2>/dev/null || true; rm $dir/pid; fi
rm -rf /sys/fs/bpf/elvs/icount /var/lib/elvs/icount /run/elvs/icount $dir/sock

if [ "${XDPSINK:-gen0}" = gen0 ]; then dev=$in; net=10.0.0; else dev=$out; net=10.1.0; fi
# service NAME WORDS ADDRESS... [-- LINE...]: a virtual service by the method of WORDS with these real servers.
service() {
  local name=$1 method=$2 address; shift 2
  echo "virtual_server $name {"
  case $name in fwmark*) ;; *) echo "  protocol UDP" ;; esac
  echo "  lvs_sched ${SCHEDULER:-rr}"; echo "  lvs_method $method"
  case $method in FNAT) echo "  laddr_group_name local" ;; esac
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $name in fwmark*) address=$1 ;; *) address="$1 5000" ;; esac
    echo "  real_server $address {"; echo "    weight 1"; echo "  }"; shift
  done
  [ $# -eq 0 ] || shift
  for line in "$@"; do echo "  $line"; done
  echo "}"
}
# Ports for the flows of all lines: 64,512 a piece.
ports=10.0.0.200-203
config() {
  local servers=() name="10.0.0.100 5000" lines=()
  for k in 21 22 23 24; do servers+=($net.$k); done
  [ -z "${CONNECTIONS:-}" ] || echo "data_plane { connections $CONNECTIONS }"
  if [ $method = fullnat ] || wants others; then echo "local_address_group local {"; echo "  $ports"; echo "}"; fi
  if wants mark; then name="fwmark 7"; echo "mark 7 {"; echo "  destination 10.0.0.100"; echo "}"; fi
  if wants persist; then lines=("persistence_timeout 300"); fi
  service "$name" "$words" "${servers[@]}" -- "${lines[@]}"
  if wants others; then
    service "10.0.0.101 5000" FNAT $net.21
    service "10.0.0.102 5000" "TUN type gue port 5555" $net.21
    service "10.0.0.103 5000" NAT $net.21
    service "10.0.0.104 5000" DR $net.21 -- "persistence_timeout 300"
    service "fd00::105 5000" DR fd00::21
    service "fd00::106 5000" NAT fd00::21
  fi
  if wants marks; then echo "mark 8 {"; echo "  destination 10.0.0.108"; echo "}"; service "fwmark 8" DR $net.21; fi
}
config > $dir/elvs.conf
if [ $method = fullnat ]; then for k in 200 201 202 203; do ip -n "$ns" addr replace 10.0.0.$k/32 dev "$in"; done; fi
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
wants daemon || { kill -9 "$(cat $dir/pid)"; rm $dir/pid; }
cp $dir/log /out/elvs.log
