use super::*;

#[test]
fn reads_a_report_of_wrk() {
    let report = "\
Running 2s test @ http://10.0.0.100/
  2 threads and 50 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.04ms    1.62ms  29.28ms   92.38%
    Req/Sec    26.16k     4.40k   38.14k    72.50%
  104108 requests in 2.01s, 21.84MB read
  Socket errors: connect 1, read 2, write 3, timeout 4
  Non-2xx or 3xx responses: 7
Requests/sec:  51792.11
Transfer/sec:     10.87MB
";
    let expected = Wrk { requests: 104_108, socket_errors: 10, refused: 7 };
    assert_eq!(Wrk::parse(report), expected);
}

#[test]
#[should_panic(expected = "no number of requests")]
fn refuses_what_is_no_report() {
    Wrk::parse("unable to connect to 10.0.0.100:80 Connection refused\n");
}
