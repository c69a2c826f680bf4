//! From a question's bytes to an answer's, for everything that the cluster knows itself.

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, Record, RecordType},
};

use crate::zone::{Answer, Zone};

/// The largest UDP answer, whatever a client offers: what fits an unfragmented packet.
const MAX_UDP_BYTES: u16 = 1232;
const MIN_UDP_BYTES: u16 = 512;

/// What to do with a question.
pub(crate) enum Reply {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Ask upstream: the question is not about the cluster.
    Forward,
    /// Ask upstream for a name and put the alias in front of its answer.
    Follow(Box<Unfinished>),
    /// Nothing that could be answered.
    Ignore,
}

/// An answer that waits for an alias's target.
pub(crate) struct Unfinished {
    request: Message,
    alias: Record,
    target: Name,
    limit: u16,
}

impl Unfinished {
    /// The question to ask upstream.
    pub(crate) fn question(&self) -> Option<Vec<u8>> {
        let mut question = Message::query();
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(self.target.clone(), self.request.queries.first()?.query_type()));
        question.to_vec().ok()
    }

    /// The alias, with what upstream says of its target. Without an answer the alias stands alone.
    pub(crate) fn finish(self, upstream: Option<&[u8]>) -> Option<Vec<u8>> {
        let mut response = response_to(&self.request, ResponseCode::NoError);
        response.add_answer(self.alias);
        if let Some(upstream) = upstream.and_then(|bytes| Message::from_vec(bytes).ok()) {
            response.add_answers(upstream.answers);
        }
        encode(&response, self.limit)
    }
}

/// Looks at a question. `over_udp` bounds the answer's size; `turn` rotates equal records, so that clients that take
/// the first spread.
pub(crate) fn reply(zone: &Zone<'_>, bytes: &[u8], over_udp: bool, turn: usize) -> Reply {
    let Ok(request) = Message::from_vec(bytes) else {
        return malformed(bytes);
    };
    if request.metadata.message_type != MessageType::Query {
        return Reply::Ignore;
    }
    let limit = if over_udp { udp_limit(&request) } else { u16::MAX };
    let refuse = |code| encode(&response_to(&request, code), limit).map_or(Reply::Ignore, Reply::Send);
    let [question] = request.queries.as_slice() else {
        return refuse(ResponseCode::FormErr);
    };
    if request.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    if !matches!(question.query_class(), DNSClass::IN | DNSClass::ANY) {
        return refuse(ResponseCode::Refused);
    }
    let (code, mut response) = match zone.answer(question.name(), question.query_type()) {
        Answer::NotOurs => return Reply::Forward,
        Answer::Alias(alias, target) => {
            return Reply::Follow(Box::new(Unfinished { request, alias: *alias, target, limit }));
        }
        Answer::NoSuchName => (ResponseCode::NXDomain, response_to(&request, ResponseCode::NXDomain)),
        Answer::Found(mut found) => {
            let mut response = response_to(&request, ResponseCode::NoError);
            rotate(&mut found.answers, turn);
            response.add_answers(found.answers).add_additionals(found.additionals);
            (ResponseCode::NoError, response)
        }
    };
    response.metadata.authoritative = true;
    if code == ResponseCode::NXDomain || response.answers.is_empty() {
        response.add_authority(zone.authority());
    }
    encode(&response, limit).map_or(Reply::Ignore, Reply::Send)
}

/// Rotates equal records. Aliases stay in front of what they lead to: resolvers read an answer from its beginning.
fn rotate(answers: &mut [Record], turn: usize) {
    let aliases = answers.iter().take_while(|record| record.record_type() == RecordType::CNAME).count();
    let equal = &mut answers[aliases..];
    if !equal.is_empty() {
        equal.rotate_left(turn % equal.len());
    }
}

/// A failure to ask upstream.
pub(crate) fn failure(question: &[u8]) -> Option<Vec<u8>> {
    let request = Message::from_vec(question).ok()?;
    encode(&response_to(&request, ResponseCode::ServFail), MIN_UDP_BYTES)
}

fn malformed(bytes: &[u8]) -> Reply {
    let Some([high, low]) = bytes.first_chunk::<2>() else {
        return Reply::Ignore;
    };
    let is_response = bytes.get(2).is_none_or(|flags| flags & 0x80 != 0);
    if is_response {
        return Reply::Ignore;
    }
    let error = Message::error_msg(u16::from_be_bytes([*high, *low]), OpCode::Query, ResponseCode::FormErr);
    encode(&error, MIN_UDP_BYTES).map_or(Reply::Ignore, Reply::Send)
}

fn response_to(request: &Message, code: ResponseCode) -> Message {
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.response_code = code;
    response.add_queries(request.queries.iter().cloned());
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP_BYTES);
        response.set_edns(edns);
    }
    response
}

fn udp_limit(request: &Message) -> u16 {
    request.edns.as_ref().map_or(MIN_UDP_BYTES, |e| e.max_payload().clamp(MIN_UDP_BYTES, MAX_UDP_BYTES))
}

/// An answer that is too long does without what only goes along with it. If that is not enough, it has the records that
/// fit and says that there are more: a client that can comes back over TCP.
fn encode(response: &Message, limit: u16) -> Option<Vec<u8>> {
    let fitting = |message: &Message| message.to_vec().ok().filter(|bytes| bytes.len() <= usize::from(limit));
    if let Some(bytes) = fitting(response) {
        return Some(bytes);
    }
    if !response.additionals.is_empty() {
        let mut bare = response.clone();
        bare.additionals.clear();
        return encode(&bare, limit);
    }
    let with = |count: usize| {
        let mut short = response.truncate();
        short.metadata.truncation = true;
        short.add_answers(response.answers.iter().take(count).cloned());
        fitting(&short)
    };
    let (mut most, mut too_many) = (0, response.answers.len() + 1);
    while too_many - most > 1 {
        let middle = usize::midpoint(most, too_many);
        if with(middle).is_some() {
            most = middle;
        } else {
            too_many = middle;
        }
    }
    with(most)
}

#[cfg(test)]
mod tests;
