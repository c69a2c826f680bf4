//! Which keys are written twice.

use super::*;

fn ranges(list: &[(&'static str, Option<&'static str>)]) -> Ranges {
    let mut ranges = Ranges::default();
    for (from, end) in list {
        ranges.add(Bytes::from_static(from.as_bytes()), end.map(|end| Bytes::from_static(end.as_bytes())));
    }
    ranges
}

#[test]
fn ranges_that_touch_are_one() {
    let shown = |list: &[(&'static str, Option<&'static str>)]| {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let one = |(from, end): (&Bytes, &Option<Bytes>)| {
            format!("{}-{}", text(from), end.as_ref().map_or_else(String::new, text))
        };
        ranges(list).0.iter().map(one).collect::<Vec<_>>()
    };
    assert_eq!(shown(&[("c", Some("d")), ("a", Some("b"))]), ["a-b", "c-d"]);
    assert_eq!(shown(&[("a", Some("b")), ("c", Some("d")), ("b", Some("c"))]), ["a-d"]);
    assert_eq!(shown(&[("a", Some("z")), ("c", Some("d"))]), ["a-z"]);
    assert_eq!(shown(&[("c", None), ("a", Some("d"))]), ["a-"]);
    assert_eq!(shown(&[("c", Some("d")), ("e", None), ("a", None)]), ["a-"]);
    assert_eq!(shown(&[("b", Some("a")), ("b", Some("b"))]), [""; 0]);
}

#[test]
fn a_key_lies_in_the_range_that_begins_before_it() {
    let ranges = ranges(&[("b", Some("c")), ("e", None)]);
    let within = |key: &'static str| ranges.contains(&Bytes::from_static(key.as_bytes()));
    let keys = ["a", "b", "bz", "c", "d", "e", "z"];
    assert_eq!(keys.map(within), [false, true, true, false, false, true, true]);
}

#[test]
fn a_key_is_put_once_and_not_deleted_as_well() {
    let put = |key: &'static str| {
        let call = PutRequest { key: Bytes::from_static(key.as_bytes()), ..PutRequest::default() };
        RequestOp { request: Some(Request::Put(call)) }
    };
    let delete = |key: &'static str, end: &'static str| {
        let (key, range_end) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(end.as_bytes()));
        RequestOp { request: Some(Request::DeleteRange(DeleteRangeRequest { key, range_end, ..Default::default() })) }
    };
    let nested = |success, failure| RequestOp {
        request: Some(Request::Txn(TxnRequest { success, failure, ..TxnRequest::default() })),
    };
    let accepted = |ops: &[RequestOp]| overlaps(ops).is_ok();
    assert!(accepted(&[put("a"), put("b"), delete("c", ""), delete("c", "d")]));
    assert!(!accepted(&[put("a"), put("a")]));
    assert!(!accepted(&[put("a"), delete("a", "")]));
    assert!(accepted(&[put("aa"), delete("a", "")]));
    assert!(!accepted(&[put("b"), delete("a", "c")]));
    assert!(!accepted(&[put("z"), delete("a", "\0")]));
    assert!(accepted(&[nested(vec![put("a")], vec![put("a")])]), "only one of the two happens");
    assert!(!accepted(&[put("a"), nested(vec![], vec![put("a")])]));
    assert!(!accepted(&[put("a"), nested(vec![delete("a", "b")], vec![])]));
}

#[tokio::test]
async fn an_answer_ends_where_it_is_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let server = crate::Server::empty(dir.path());
    let call = PutRequest { key: "a".into(), value: vec![b'x'; 1000].into(), ..PutRequest::default() };
    crate::kv::put(&server, call).await.unwrap();
    let view = server.store.latest();
    let call = RangeRequest { key: "a".into(), ..RangeRequest::default() };
    let outcome = |reads: usize| {
        let one = || Done::Range { view: view.clone(), revision: 2, call: call.clone() };
        let nested = Outcome { revision: 2, succeeded: true, done: (0..reads).map(|_| one()).collect() };
        Outcome { revision: 2, succeeded: true, done: vec![one(), Done::Txn(nested)] }
    };
    let answered = |reads, mut left: usize| outcome(reads).answer(&mut left).map_err(|status| status.code());
    assert!(answered(8, 9 * 1200).is_ok());
    assert_eq!(answered(9, 9 * 1200).unwrap_err(), tonic::Code::ResourceExhausted);
}
