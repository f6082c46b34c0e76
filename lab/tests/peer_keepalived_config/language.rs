//! Mistakes of form, and features of the language.

/// Name and text of each; `<VS>` stands for a service that both take.
pub const LANGUAGE: &[(&str, &str)] = &[
    ("empty", ""),
    ("comments", "# a\n! b\n  # c\nvirtual_server_group G { # d\n192.0.2.1 80 ! e\n}\n"),
    ("unknown-root", "nosuchblock {\n}\n"),
    ("unknown-word", "hello\n"),
    ("close-too-many", "<VS>}\n"),
    (
        "close-missing",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n",
    ),
    ("open-without-keyword", "{\n}\n<VS>"),
    (
        "open-on-next-line",
        "virtual_server 192.0.2.1 80\n{\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80\n{\nweight 1\n}\n}\n",
    ),
    (
        "one-line",
        "virtual_server 192.0.2.1 80 { protocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 { weight 1\n} }\n",
    ),
    ("quote-open", "global_defs {\nrouter_id \"lb\n}\n<VS>"),
    ("quoted-value", "global_defs {\nrouter_id \"lb one\"\n}\n<VS>"),
    ("comment-in-quotes", "global_defs {\nrouter_id \"lb # ! one\"\n}\n<VS>"),
    (
        "parameter",
        "$W=3\nvirtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight $W\n}\n}\n",
    ),
    (
        "parameter-undefined",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight ${W}\n}\n}\n",
    ),
    (
        "parameter-recursive",
        "$NET=192.0.${SUB}\n$SUB=2\nvirtual_server ${NET}.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server ${NET}.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "parameter-multi-line",
        "$RS= \\\nreal_server 192.0.2.${N} 80 { \\\nweight 1 \\\n}\nvirtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\n$N=2\n$RS\n$N=3\n$RS\n}\n",
    ),
    ("continued-line", "global_defs {\nrouter_id \\\nlb\n}\n<VS>"),
    ("condition", "global_defs {\n@main router_id one\n@back router_id two\n@^main bogus\n}\n<VS>"),
    ("condition-bad", "global_defs {\n@main bogus 1\n}\n<VS>"),
    (
        "condition-of-definition",
        "@main $W=3\n@back $W=x\nvirtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight $W\n}\n}\n",
    ),
    (
        "seq",
        "$RS= \\\nreal_server 192.0.2.${N} 80 { \\\nweight 1 \\\n}\nvirtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\n~SEQ(N, 2, 9) $RS\n}\n",
    ),
    (
        "seq-hex",
        "$RS= \\\nreal_server 2001:db8::${N} 80 { \\\nweight 1 \\\n}\nvirtual_server 2001:db8:1::1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\n~SEQx(N, 0x90, 0x10, 0xc0) $RS\n}\n",
    ),
    ("seq-no-end", "~SEQ(N) router_id x\n<VS>"),
    ("seq-never", "~SEQ(N,1,-1,3) bogus\n<VS>"),
    ("seq-not-a-number", "~SEQ(N,1,x) bogus\n<VS>"),
    ("seq-number-left-out", "~SEQ(N,,2) $A=$N\n<VS>"),
    ("lst", "virtual_server_group G {\n~LST({A,P}, {192.0.2.1,80}, {192.0.2.2,81}) $A $P\n}\n"),
    (
        "lst-nested",
        "virtual_server_group G {\n~LST(A, 192.0.2.1, 192.0.2.2) ~SEQ(P, 80, 82) $A $P\n}\n",
    ),
    ("lst-too-many", "~LST(A, {1,2}) bogus\n<VS>"),
    ("lst-no-values", "~LST(A) bogus\n<VS>"),
    (
        "random",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight ${_RANDOM 1 9}\n}\n}\n",
    ),
    ("builtins", "global_defs {\nrouter_id ${_INSTANCE}\n}\n<VS>"),
    ("hash", "global_defs {\nrouter_id \"a${_HASH}b${_BANG}\"\n}\n<VS>"),
    ("include", "include part.inc\n"),
    ("include-missing", "include none.inc\n<VS>"),
    ("include-glob", "include p*.inc\n"),
    ("include-braces", "include {part,none}.inc\n"),
    ("includer-missing", "includer none.inc\n<VS>"),
    ("includem-missing", "includem none.inc\n<VS>"),
    ("includem-glob-missing", "includem none*.inc\n<VS>"),
    ("includew-missing", "includew none*.inc\n<VS>"),
    ("includeb-missing", "includeb {part,none}.inc\n<VS>"),
    ("includeb", "includeb {part,part}.inc\n"),
    ("includea-missing", "includea none*.inc\n<VS>"),
    ("includea", "includea part.inc\n"),
    ("include-check", "global_defs {\ninclude_check\n}\ninclude none.inc\n<VS>"),
    ("include-of-broken", "include broken.inc\n<VS>"),
    ("include-conditional", "@main include part.inc\n"),
    ("include-of-itself", "include loop.inc\n<VS>"),
    ("utf8", "global_defs {\nrouter_id münchen # größe\n}\n<VS>"),
    ("crlf", "global_defs {\r\nrouter_id lb\r\n}\r\n<VS>"),
    (
        "vs-without-port",
        "virtual_server 192.0.2.1 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\npersistence_timeout 50\nreal_server 192.0.2.2 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-bad-address",
        "virtual_server 192.0.2.999 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-bad-port",
        "virtual_server 192.0.2.1 99999 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    ("vs-no-address", "virtual_server {\nprotocol TCP\n}\n"),
    ("vs-twice", "<VS><VS>"),
    (
        "vs-no-real-server",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\n}\n",
    ),
    (
        "vs-sorry-only",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nsorry_server 192.0.2.9 80\n}\n",
    ),
    (
        "vs-no-protocol",
        "virtual_server 192.0.2.1 80 {\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-no-scheduler",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-no-method",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-sched-twice",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_sched wrr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-ipv6",
        "virtual_server 2001:db8::1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 2001:db8::2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-mixed-nat",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 2001:db8::2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-mixed-tun",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method TUN\nreal_server 2001:db8::2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-ops-tcp",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nops\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-ops-udp",
        "virtual_server 192.0.2.1 53 {\nprotocol UDP\nops\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 53 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-sh-flags",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched sh\nsh-port\nsh-fallback\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-fwmark",
        "virtual_server fwmark 7 {\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-fwmark-protocol",
        "virtual_server fwmark 7 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-fwmark-zero",
        "virtual_server fwmark 0 {\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-fwmark-bad",
        "virtual_server fwmark x {\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-fwmark-ip6",
        "virtual_server fwmark 7 {\nip_family inet6\nlvs_sched rr\nlvs_method NAT\nreal_server 2001:db8::2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-group",
        "virtual_server_group G {\n192.0.2.1 80\n192.0.2.5-9 81\nfwmark 5\n}\nvirtual_server group G {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-group-undefined",
        "virtual_server group G {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-group-bad-address",
        "virtual_server_group G {\n192.0.2.900 80\n}\nvirtual_server group G {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-group-bad-range",
        "virtual_server_group G {\n192.0.2.9-3 80\n}\nvirtual_server group G {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-group-cidr",
        "virtual_server_group G {\n192.0.2.0/29 80\n}\nvirtual_server group G {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.100 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-group-twice",
        "virtual_server_group G {\n192.0.2.1 80\n}\nvirtual_server_group G {\n192.0.2.2 80\n}\n<VS>",
    ),
    ("vs-group-empty", "virtual_server_group G {\n}\n<VS>"),
    (
        "rs-bad-address",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.x 80 {\nweight 1\n}\n}\n",
    ),
    (
        "rs-bad-port",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 x {\nweight 1\n}\n}\n",
    ),
    (
        "rs-twice",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\nreal_server 192.0.2.2 80 {\nweight 2\n}\n}\n",
    ),
    ("rs-outside", "real_server 192.0.2.2 80 {\nweight 1\n}\n<VS>"),
    (
        "rs-other-port-dr",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method DR\nreal_server 192.0.2.2 8080 {\nweight 1\n}\n}\n",
    ),
    (
        "checker-in-vs",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nTCP_CHECK {\n}\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "checkers-two",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nTCP_CHECK {\n}\nPING_CHECK {\n}\n}\n}\n",
    ),
    (
        "quorum-larger-than-weight",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nquorum 9\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "hysteresis-of-quorum",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nquorum 1\nhysteresis 3\nreal_server 192.0.2.2 80 {\nweight 5\n}\n}\n",
    ),
    (
        "http-without-url",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nHTTP_GET {\n}\n}\n}\n",
    ),
    (
        "misc-without-path",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nMISC_CHECK {\n}\n}\n}\n",
    ),
    (
        "script-without-security",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nnotify_up \"/bin/true\"\n}\n}\n",
    ),
    (
        "script-missing",
        "global_defs {\nscript_user root\nenable_script_security\n}\nvirtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nnotify_up \"/no/such/script\"\n}\n}\n",
    ),
    (
        "ssl",
        "SSL {\npassword secret\nca /etc/ssl/ca.pem\ncertificate /etc/ssl/cert.pem\nkey /etc/ssl/key.pem\n}\n<VS>",
    ),
    ("ssl-unknown", "SSL {\ncipher x\n}\n<VS>"),
    (
        "bfd-check",
        "bfd_instance B {\nneighbor_ip 192.0.2.2\n}\nvirtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nBFD_CHECK {\nname B\n}\n}\n}\n",
    ),
    (
        "bfd-check-undefined",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nBFD_CHECK {\nname B\n}\n}\n}\n",
    ),
    ("bfd-bad", "bfd_instance B {\nneighbor_ip x\n}\n<VS>"),
    (
        "file-check",
        "track_file F {\nfile /tmp/elvs-none\n}\nvirtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nFILE_CHECK {\ntrack_file F\nweight 2\n}\n}\n}\n",
    ),
    (
        "file-check-undefined",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nFILE_CHECK {\ntrack_file F\n}\n}\n}\n",
    ),
    (
        "block-nested-wrong",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nglobal_defs {\n}\n}\n}\n",
    ),
];

/// Texts of words that nobody knows: both readers tell which words they found.
///
/// Left out is what 2.2.7 gets wrong by its own manual: a condition that comes from a parameter and holds (`$C=@main`),
/// and `\#` and `\!`, which its processes read differently: the first as the manual says, the others as comments.
pub const WORDS: &[&str] = &[
    "wa wb\nwc # wd\n! we\n  wf!wg\n",
    "wa \"wb # wc\" wd\nwe\n",
    "$A=1\n$B=${A}2\nw$A\nw${B}x\nw$A,y\n$A=3\nw${B}\nw$C\n",
    "$W=wa\n$W wb\n${W}x\n$W\n",
    "$E=\nwa${E}b\nx${E}\n",
    "@main wa\n@back wb\n@^main wc\n@^back wd\n@main\n",
    "$D=@back\n$D wb\nwa\n",
    "$M= \\\nwa \\\nwb x \\\n  wc\n$M\nwd\n$M\n",
    "$M= \\\nw${N} \\\n\n$N=1\n$M\n$N=2\n$M\n",
    "$I= \\\nwi${N} \\\nwj\n$O= \\\n$N=1 \\\n$I \\\n$N=2 \\\n$I\n$O\nwe\n",
    "~SEQ(N, 1, 3) w$N\nw${N}x\n",
    "~SEQ(N, 3, 1) w$N\n~SEQ(M, 2) v$M\n~SEQ(L, -2) u$L\n~SEQ(K, 0) t$K\n",
    "~SEQ(N, 010, 2, 0xd) w$N\n~SEQx(M, 0x8, 12) v$M\n~SEQx (L , 30 , -7 , 8 ) u$L\n",
    "$T=3\n~SEQ(N, 1, $T) w$N\n~SEQ(M, ${T}, 5) v$M\n",
    "~SEQ(N, 1, 2) ~SEQ(M, 1, 2) w${N}.$M\n",
    "~SEQ(N, 1, 2) ~SEQ(M, $N, 2) w${N}.$M\n",
    "~LST(N, a, b ,c) w$N\n~LST({P,Q}, {1,2}, {3} , {4,5}) v${P}-${Q}\n",
    "~LST(N, a, b) ~SEQ(M, 1, 2) w$N$M w${N}${M}\n",
    "$L=~SEQ(N, 1, 2)\n$L w$N\n",
    "$M= \\\nwa$N \\\nwb\n~SEQ(N, 1, 2) $M\n",
    "~SEQ(N, 1, 2) @main w$N\n~SEQ(N, 1, 2) @back v$N\n",
    "~SEQ(N, 1, 2) $V=x$N\nw$V\n",
    "~word ~SEQ(N,1,2)\n",
    "w${_INSTANCE}\nw$_INSTANCE\nw${_RANDOM 5 5}\nw${_RANDOM 32767}\n",
    "$_OWN=wa\n$_OWN\nwb${_OWN}\n$2=x\nw$2\n$a b\n",
    "wf\\g wh\n\\wi\n",
    "wa\r\nwb\r\n",
];
