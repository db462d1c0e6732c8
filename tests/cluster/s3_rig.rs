//! The rig of the S3 tests itself: a fault that cannot be seen proves nothing.

use crate::docker::{Cluster, LONG, Node, eventually};
use crate::s3::{Bucket, Fault, PATH, Proxy, Rule, Seen};
use std::time::Duration;

/// boto3 at the proxy, without retries: what it says at the end. `act` may use `s3`.
fn boto(tools: &Node, proxy: &Proxy, act: &str) -> String {
    let program = format!(
        "import boto3, os\nfrom botocore.config import Config\n\
         s3 = boto3.client('s3', endpoint_url='{}', config=Config(\n\
         read_timeout=4, retries=dict(total_max_attempts=1), response_checksum_validation='when_required'))\n\
         B = os.environ['S3_BUCKET']\n\
         try: print({act})\nexcept Exception as e: print(type(e).__name__, e)",
        proxy.url()
    );
    let ran = tools.sh(&format!("python3 -c \"{program}\""));
    ran.ok()
}

#[track_caller]
fn says(said: &str, part: &str) {
    assert!(said.contains(part), "{part:?} is not in {said:?}");
}

#[test]
fn the_rig_keeps_what_it_is_given_and_breaks_what_it_is_told() {
    let c = Cluster::new("s3rig");
    let bucket = Bucket::start(&c);
    let key = format!("{PATH}/a b/ü+%");
    assert!(bucket.keys("").is_empty());
    assert_eq!(bucket.read(&key), None);
    bucket.write(&key, b"0123456789");
    bucket.write("elsewhere/", b"");
    assert_eq!(bucket.keys(""), ["elsewhere/", &key]);
    bucket.change(&key, |bytes| bytes[0] = b'x');
    assert_eq!(bucket.text(&key).unwrap(), "x123456789");
    assert_eq!(bucket.head(&key).unwrap()["size"], 10);
    bucket.delete_all("elsewhere");

    // A server that was killed comes back with what it had.
    bucket.server().kill("KILL");
    bucket.server().ended();
    bucket.server().start();
    bucket.wait_answers();
    assert_eq!(bucket.keys(""), std::slice::from_ref(&key));
    bucket.delete(&key);

    let proxy = bucket.proxy();
    let tools = bucket.tools();
    let put = "s3.put_object(Bucket=B, Key='prod/k', Body=b'0123456789')['ETag']";
    let get = "s3.get_object(Bucket=B, Key='prod/k')['Body'].read()";
    let list = "s3.list_objects_v2(Bucket=B)['KeyCount']";
    let run = |act: &str| boto(tools, &proxy, act);
    let hit = |fault: Fault, act: &str| {
        proxy.fail(Rule::new(fault));
        let said = run(act);
        proxy.clear();
        said
    };
    // What is signed passes as it is.
    assert!(run(put).starts_with('"'), "{}", run(put));
    assert_eq!(run(get), "b'0123456789'");
    let clean = |s: &Seen| s.fault.is_none() && s.status == Some(200);
    assert!(proxy.seen().iter().all(clean), "{:?}", proxy.seen());

    let told = |fault, act, part| says(&hit(fault, act), part);
    told(Fault::Answer(503, "SlowDown"), get, "SlowDown");
    told(Fault::Answer(403, "ExpiredToken"), list, "ExpiredToken");
    told(Fault::Deaf, get, "Read timeout on endpoint");
    told(Fault::StallAnswer(3), get, "Read timeout");
    told(Fault::CutAnswer(3), get, "3 bytes read, 7 more expected");
    told(Fault::ShortAnswer(3), get, "b'012'");
    told(Fault::FlipAnswer(9), get, "b'0123456788'");
    told(Fault::Late(Duration::from_millis(10)), list, "1");

    // The server notices a wrong upload; a torn one and a stalled one leave what was there.
    let write = "s3.put_object(Bucket=B, Key='prod/k', Body=b'abcdefghij')['ETag']";
    told(Fault::FlipRequest(0), write, "InvalidDigest");
    told(Fault::CutRequest(3), write, "Connection was closed");
    told(Fault::StallRequest(3), write, "Read timeout on endpoint");
    assert_eq!(run(get), "b'0123456789'");
    // Done and not said.
    told(Fault::Unanswered, write, "Connection was closed");
    assert_eq!(bucket.text("prod/k").unwrap(), "abcdefghij");

    // The first that fits passes, the second is hit, the third passes.
    let broken = Rule::new(Fault::Answer(500, "InternalError"));
    proxy.fail(broken.method("GET").key("/prod/k").after(1).times(1));
    says(&run(list), "1");
    says(&run(get), "abcdefghij");
    says(&run(get), "InternalError");
    says(&run(get), "abcdefghij");
    proxy.clear();

    proxy.refuse();
    says(&run(get), "Could not connect");
    proxy.clear();
    says(&run(get), "abcdefghij");
    assert!(proxy.count("GET", "/prod/k") > 3 && proxy.connections() > 3);

    // By TLS, with the authority that the volume has and without.
    let tls = bucket.tls(&c);
    let curl = |more: &str| {
        let shell = format!(
            "openssl s_client -connect s3tls:443 -verify_return_error {more} </dev/null 2>&1"
        );
        bucket.tools().sh(&shell).out
    };
    eventually("the front is up", LONG, || {
        tls.front.is_running().then_some(())?;
        curl("-CAfile /tmp/ca.pem -verify_hostname pgnode.s3tls")
            .contains("Verify return code: 0")
            .then_some(())
    });
    says(&curl(""), "verify error");
}
