//! The cluster of one, and who it says it is.

use crate::Server;
use crate::proto::{AuthStatusResponse, Member, MemberListResponse, ResponseHeader};

/// A cluster and a member of it have numbers; with one of each, any will do.
const CLUSTER_ID: u64 = 0x1c0c_1ad0_0000_0001;
pub(crate) const MEMBER_ID: u64 = 0x1c0c_1ad0_0000_0002;

/// There is one leader for ever.
pub(crate) const RAFT_TERM: u64 = 1;

/// What every answer begins with.
#[expect(clippy::unnecessary_wraps, reason = "it goes into a field that may be absent")]
pub(crate) fn header(revision: u64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: CLUSTER_ID,
        member_id: MEMBER_ID,
        revision: i64::try_from(revision).unwrap_or(i64::MAX),
        raft_term: RAFT_TERM,
    })
}

/// The header of an answer about now.
pub(crate) fn header_now(server: &Server) -> Option<ResponseHeader> {
    header(server.store.latest().revision())
}

pub(crate) fn member_list(server: &Server) -> MemberListResponse {
    let member = Member {
        id: MEMBER_ID,
        name: server.name.clone(),
        peer_urls: Vec::new(),
        client_urls: server.client_urls.clone(),
        is_learner: false,
    };
    MemberListResponse { header: header_now(server), members: vec![member] }
}

pub(crate) fn auth_status(server: &Server) -> AuthStatusResponse {
    AuthStatusResponse { header: header_now(server), enabled: false, auth_revision: 0 }
}
