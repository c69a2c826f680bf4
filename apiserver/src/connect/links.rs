//! Links in proxied pages: one to the root of the host that answered leads through the proxy again.
//!
//! A page is rewritten while it passes, whatever its size. What is compressed arrives unpacked.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder};
use futures::{StreamExt as _, stream};
use http::header::{self, HeaderName};
use http::{HeaderValue, Method};
use lol_html::send::{Element, HtmlRewriter, Settings};
use lol_html::{MemorySettings, element};
use parking_lot::Mutex;

use crate::answer::{Body, Response};

/// What the parser keeps of a page at once: its longest tag, and the names of what is open.
const MAX_PARSER_BYTES: usize = 1 << 20;
/// What is unpacked at once: a thousand times as much can come of it.
const PIECE_BYTES: usize = 4 << 10;
/// What is gathered of a page before it goes on.
const GATHERED_BYTES: usize = 64 << 10;

/// Attributes that hold a link, by tag.
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// What a page may say to scripts of other origins is not the other side's to decide.
const CROSS_ORIGIN: [HeaderName; 4] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
];

/// Where a page stands, and for whom.
#[derive(Clone, Debug)]
pub(super) struct Links {
    /// The path of the proxy, without a slash at its end.
    pub(super) prefix: String,
    /// The host that answers, with its port.
    pub(super) answering: String,
    /// The host that was asked, as the client calls it.
    pub(super) asked: String,
}

impl Links {
    /// The link through the proxy; none when it is fine as it is: relative, to another host, or through the proxy already.
    pub(super) fn through(&self, link: &str) -> Option<String> {
        let (host, rest) = split_host(link)?;
        let foreign = !host.is_empty() && host != self.answering && host != self.asked;
        if foreign || !rest.starts_with('/') {
            return None;
        }
        let kept = if !host.is_empty() && host == self.asked { &link[..link.len() - rest.len()] } else { "" };
        let prefix = if rest.starts_with(&self.prefix) { "" } else { self.prefix.as_str() };
        let changed = format!("{kept}{prefix}{rest}");
        (changed != link).then_some(changed)
    }

    /// The answer with its links through the proxy.
    pub(super) fn rewrite(self, method: &Method, mut answer: Response) -> Response {
        CROSS_ORIGIN.iter().for_each(|name| drop(answer.headers_mut().remove(name)));
        if let Some(location) = answer.headers().get(header::LOCATION) {
            let changed = location.to_str().ok().and_then(|link| self.through(link));
            if let Some(Ok(value)) = changed.map(|link| HeaderValue::from_str(&link)) {
                answer.headers_mut().insert(header::LOCATION, value);
            }
            return answer;
        }
        if method == Method::HEAD || !is_page(&answer) {
            return answer;
        }
        let Some(unpacking) = Unpacking::of(&answer) else { return answer };
        let (mut parts, body) = answer.into_parts();
        // Neither is true of what comes out.
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.remove(header::CONTENT_ENCODING);
        Response::from_parts(parts, self.page(unpacking, body))
    }

    fn page(self, unpacking: Unpacking, body: Body) -> Body {
        let start = (body.into_data_stream(), Some(Page::new(self, unpacking)));
        Body::from_stream(stream::unfold(start, |(mut data, page)| async move {
            let mut page = page?;
            if page.arrived.is_empty() {
                match data.next().await {
                    None => return Some((page.end().map_err(axum::Error::new), (data, None))),
                    Some(Err(failure)) => return Some((Err(failure), (data, None))),
                    Some(Ok(bytes)) => page.arrived = bytes,
                }
            }
            let out = page.advance().map_err(axum::Error::new);
            let page = out.is_ok().then_some(page);
            Some((out, (data, page)))
        }))
    }
}

/// The host and what follows it. The host is empty when the link names none; nothing when it is no link to a page.
fn split_host(link: &str) -> Option<(&str, &str)> {
    let after = ["http://", "https://", "//"].iter().find_map(|start| link.strip_prefix(start));
    let Some(after) = after else { return Some(("", link)) };
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    Some(after.split_at(end)).filter(|(host, _)| !host.is_empty())
}

fn is_page(answer: &Response) -> bool {
    let content_type = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    essence.trim() == "text/html"
}

type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// A page on its way through.
struct Page {
    unpacking: Unpacking,
    rewriter: HtmlRewriter<'static, Sink>,
    out: Arc<Mutex<Vec<u8>>>,
    /// What has arrived and is still to go through.
    arrived: Bytes,
}

impl Page {
    fn new(links: Links, unpacking: Unpacking) -> Self {
        let out = Arc::<Mutex<Vec<u8>>>::default();
        let sink = out.clone();
        let sink: Sink = Box::new(move |chunk| sink.lock().extend_from_slice(chunk));
        let handler = element!("*", move |element: &mut Element<'_, '_>| {
            correct(element, &links)?;
            Ok(())
        });
        let memory = MemorySettings::new().with_max_allowed_memory_usage(MAX_PARSER_BYTES);
        // A page with mistakes is still a page.
        let settings = Settings::new_send().with_strict(false).with_memory_settings(memory);
        let rewriter = HtmlRewriter::new(settings.append_element_content_handler(handler), sink);
        Self { unpacking, rewriter, out, arrived: Bytes::new() }
    }

    /// What comes out of some of what has arrived: enough to go on with, or all that there is.
    fn advance(&mut self) -> io::Result<Bytes> {
        while !self.arrived.is_empty() && self.out.lock().len() < GATHERED_BYTES {
            let piece = self.arrived.split_to(self.arrived.len().min(PIECE_BYTES));
            let unpacked = self.unpacking.take(&piece)?;
            self.rewriter.write(&unpacked).map_err(io::Error::other)?;
        }
        Ok(std::mem::take(&mut *self.out.lock()).into())
    }

    fn end(mut self) -> io::Result<Bytes> {
        let rest = self.unpacking.end()?;
        self.rewriter.write(&rest).map_err(io::Error::other)?;
        self.rewriter.end().map_err(io::Error::other)?;
        Ok(std::mem::take(&mut *self.out.lock()).into())
    }
}

fn correct(element: &mut Element<'_, '_>, links: &Links) -> Result<(), lol_html::errors::AttributeNameError> {
    let tag = element.tag_name();
    let Ok(at) = LINKS.binary_search_by_key(&tag.as_str(), |(tag, _)| tag) else { return Ok(()) };
    for attribute in LINKS[at].1 {
        let link = element.get_attribute(attribute);
        if let Some(changed) = link.and_then(|link| links.through(&link)) {
            element.set_attribute(attribute, &changed)?;
        }
    }
    Ok(())
}

enum Unpacking {
    Plain,
    Gzip(MultiGzDecoder<Vec<u8>>),
    Deflate(DeflateDecoder<Vec<u8>>),
}

impl Unpacking {
    /// None for what nobody here can unpack.
    fn of(answer: &Response) -> Option<Self> {
        let Some(encoding) = answer.headers().get(header::CONTENT_ENCODING) else { return Some(Self::Plain) };
        match encoding.as_bytes() {
            b"" => Some(Self::Plain),
            b"gzip" => Some(Self::Gzip(MultiGzDecoder::new(Vec::new()))),
            b"deflate" => Some(Self::Deflate(DeflateDecoder::new(Vec::new()))),
            _ => None,
        }
    }

    fn take(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain => Ok(piece.to_owned()),
            Self::Gzip(decoder) => {
                decoder.write_all(piece)?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Deflate(decoder) => {
                decoder.write_all(piece)?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }

    fn end(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain => Ok(Vec::new()),
            Self::Gzip(decoder) => {
                decoder.try_finish()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Deflate(decoder) => {
                decoder.try_finish()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
