# The bench job, cut down to what is compared here: floor, bare XDP_TX, ELVS, IPVS. Takes the place of the peer lab's own job in
# the guest; topology, service and generator are that job's (job-bench.sh), so the figures stand beside its own.
cd "${JOB:-/job}"; . ./env.sh; . ./elvs.env
FB=./fwdbench; M=02:00:00:00:00:10; NPK=${NPK:-200000}; NEW=${NEW:-100000}
modprobe -a veth dummy ip_vs ip_vs_rr
eval "$(sed -n -e '/^topo() {/,/^}/p' -e '/^svc() {/,/^}/p' job-bench.sh)"
echo "# kernel $(uname -r) unit: $UNIT"
topo dir1
for r in 1 2; do $FB -g labgen:gen0 -m $M -n $NPK -x labdir:dir0=drop -l "floor: veth + XDP_DROP"; done
if [ "${XDPSINK:-gen0}" = gen0 ]; then SINK="labgen:gen0=drop"; BARE=tx; else SINK="labsink:sink0=drop"; BARE=redir:dir1:02:00:00:00:01:21; fi
$FB -g labgen:gen0 -m $M -f 1000 -n $NPK -x labdir:dir0=$BARE -x $SINK -l "bare ${BARE%%:*} -> veth -> XDP_DROP"
for XDPOBJ in ${XDPOBJS:-elvs-dr}; do
  # One table for all of an object's lines: nobody expires its flows meanwhile (UDP: 300 s), so that "new" is a first sight each time.
  topo dir1; export XDPOBJ; ./xdp-attach.sh labdir dir0 dir1 || exit 1
  $FB -g labgen:gen0 -m $M -f 1 -n 1 -x $SINK -l "$XDPOBJ, first packet" > /dev/null
  for r in 1 2; do $FB -g labgen:gen0 -m $M -f 1 -n $NPK -x $SINK -l "$XDPOBJ, known"; done
  $FB -g labgen:gen0 -m $M -f $NEW -n $NEW -x $SINK -l "$XDPOBJ, new (one known)"
  for f in 1000 $NEW; do $FB -g labgen:gen0 -m $M -f $f -n $NPK -x $SINK -l "$XDPOBJ, known"; done
  [ -z "${DUMP:-}" ] || for n in elvs_director elvs_schedule; do
    bpftool prog dump jited name $n opcodes > /out/$n.jited; bpftool prog dump xlated name $n > /out/$n.xlated; done
done
[ -z "${IPVS:-}" ] || {
  topo dmy0; svc rr -g
  $FB -g labgen:gen0 -m $M -f $NEW -n $NEW -c labdir:dmy0 -l "IPVS DR rr, new"
  $FB -g labgen:gen0 -m $M -f 1 -n $NPK -c labdir:dmy0 -l "IPVS DR rr, known"
  for f in 1000 $NEW; do $FB -g labgen:gen0 -m $M -f $f -n $NPK -c labdir:dmy0 -l "IPVS DR rr, known"; done
}
