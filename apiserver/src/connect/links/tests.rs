//! Which links of a page are led through the proxy.

use flate2::{Compression, write::GzEncoder};
use http_body_util::BodyExt as _;

use super::*;

const PREFIX: &str = "/api/v1/namespaces/n/pods/p:80/proxy";

fn links() -> Links {
    Links { prefix: PREFIX.to_owned(), answering: "10.0.0.1:80".to_owned(), asked: "localhost:8001".to_owned() }
}

#[test]
fn links_to_the_own_root_lead_through_the_proxy() {
    let through = |path: &str| Some(format!("{PREFIX}{path}"));
    let cases = [
        ("/a/b?c#d", through("/a/b?c#d")),
        ("/", through("/")),
        ("http://10.0.0.1:80/a", through("/a")),
        ("//10.0.0.1:80/a", through("/a")),
        ("http://localhost:8001/a", Some(format!("http://localhost:8001{PREFIX}/a"))),
        ("http://example.com/a", None),
        ("//example.com/a", None),
        ("http://10.0.0.1:80", None),
        ("a/b", None),
        ("#top", None),
        ("?q", None),
        ("", None),
        ("mailto:a@b", None),
    ];
    for (link, expected) in cases {
        assert_eq!(links().through(link), expected, "{link}");
    }
    assert_eq!(links().through(&format!("{PREFIX}/a")), None);
    assert!(LINKS.is_sorted_by_key(|(tag, _)| tag));
}

async fn rewritten(headers: &[(&str, &str)], chunks: Vec<Vec<u8>>) -> (Response, String) {
    let body = Body::from_stream(stream::iter(chunks.into_iter().map(Ok::<_, io::Error>)));
    let mut builder = Response::new(body);
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        builder.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    }
    let (parts, body) = links().rewrite(&Method::GET, builder).into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    (Response::from_parts(parts, Body::empty()), text)
}

#[tokio::test]
async fn pages_are_rewritten_and_nothing_else() {
    let page = "<!doctype html><A class=x href='/a'>1</a><!-- <a href=\"/b\"> --><script>'<a href=\"/c\">'</script>\
                <img src=\"d.png\" alt=\"/e\"><form action=/f></form><p cite=\"/g\">";
    let expected = format!(
        "<!doctype html><A class=x href=\"{PREFIX}/a\">1</a><!-- <a href=\"/b\"> --><script>'<a href=\"/c\">'</script>\
         <img src=\"d.png\" alt=\"/e\"><form action=\"{PREFIX}/f\"></form><p cite=\"/g\">"
    );
    let html = ("content-type", "text/html; charset=utf-8");
    // However it arrives.
    let bytes: Vec<Vec<u8>> = page.bytes().map(|byte| vec![byte]).collect();
    for chunks in [vec![page.as_bytes().to_vec()], bytes] {
        let (answer, text) = rewritten(&[html, ("content-length", "9")], chunks).await;
        assert_eq!(text, expected);
        assert!(!answer.headers().contains_key(header::CONTENT_LENGTH));
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(page.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let (answer, text) = rewritten(&[html, ("content-encoding", "gzip")], vec![packed]).await;
    assert_eq!(text, expected);
    assert!(!answer.headers().contains_key(header::CONTENT_ENCODING));
    let plain = [("content-type", "text/plain"), ("access-control-allow-origin", "*"), ("content-length", "9")];
    let (answer, text) = rewritten(&plain, vec![page.as_bytes().to_vec()]).await;
    assert_eq!((text.as_str(), answer.headers().len()), (page, 2));
    let (answer, _) = rewritten(&[html, ("location", "/a")], Vec::new()).await;
    assert_eq!(answer.headers()["location"], format!("{PREFIX}/a"));
}

#[tokio::test]
async fn a_page_that_unpacks_to_much_passes_in_parts() {
    const PAGE_BYTES: usize = 64 << 20;
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    let text = vec![b'x'; 1 << 20];
    (0..PAGE_BYTES / text.len()).for_each(|_| packer.write_all(&text).unwrap());
    let packed = packer.finish().unwrap();
    // It arrives at once.
    let mut answer = Response::new(Body::from(packed));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
    answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let mut data = links().rewrite(&Method::GET, answer).into_body().into_data_stream();
    let (mut whole, mut largest) = (0, 0);
    while let Some(part) = data.next().await {
        let part = part.unwrap();
        whole += part.len();
        largest = largest.max(part.len());
    }
    assert_eq!(whole, PAGE_BYTES);
    // What comes of one piece is at most a thousand times as much.
    assert!(largest <= GATHERED_BYTES + 1100 * PIECE_BYTES, "{largest}");
}
