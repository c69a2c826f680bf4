//! Handshakes in memory: who believes whom.

use std::sync::Arc;

use pki::{Authority, Credential, Profile, tls};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

/// rustls reads the wall clock by itself.
#[expect(clippy::disallowed_methods, reason = "pki has no clock of its own")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Runs a handshake; the server's view of the client's certificate, or what either side objected to.
fn handshake(server: ServerConfig, client: ClientConfig) -> Result<Option<String>, rustls::Error> {
    let name = "api.example".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut unread = wire.as_slice();
        while !unread.is_empty() {
            server.read_tls(&mut unread).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut unread = wire.as_slice();
        while !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client.process_new_packets()?;
        }
    }
    let certificate = server.peer_certificates().and_then(|chain| chain.first());
    Ok(certificate.map(|der| pki::Certificate::from_der(der).unwrap().common_name))
}

fn serving(authority: &Authority) -> Credential {
    authority.issue(&Profile::server("api", ["api.example"]), now()).unwrap()
}

#[test]
fn a_client_certificate_is_optional_and_verified() {
    let authority = Authority::create("ca", now()).unwrap();
    let stranger = Authority::create("ca", now()).unwrap();
    let server = || tls::server(&serving(&authority), Some(authority.certificate_pem())).unwrap();
    let client = |credential: Option<&Credential>| tls::client(authority.certificate_pem(), credential).unwrap();

    assert_eq!(handshake(server(), client(None)), Ok(None));
    let alice = authority.issue(&Profile::client("alice", ["g"]), now()).unwrap();
    assert_eq!(handshake(server(), client(Some(&alice))), Ok(Some("alice".to_owned())));
    let mallory = stranger.issue(&Profile::client("alice", ["g"]), now()).unwrap();
    assert!(handshake(server(), client(Some(&mallory))).is_err());
    assert!(handshake(server(), tls::client(stranger.certificate_pem(), None).unwrap()).is_err());
}

#[test]
fn a_pin_believes_its_authority_only() {
    let authority = Authority::create("ca", now()).unwrap();
    let stranger = Authority::create("ca", now()).unwrap();
    let chained = |authority: &Authority| {
        let leaf = serving(authority);
        let chain = format!("{}{}", leaf.certificate_pem(), authority.certificate_pem());
        tls::server(&Credential::from_pem(chain, leaf.key_pem()).unwrap(), None).unwrap()
    };
    let pinned = || tls::pinned_client(authority.pin()).unwrap();
    assert_eq!(handshake(chained(&authority), pinned()), Ok(None));
    assert!(handshake(chained(&stranger), pinned()).is_err());
    assert!(handshake(tls::server(&serving(&authority), None).unwrap(), pinned()).is_err(), "no chain");

    // The pinned authority beside a leaf that it did not sign.
    let leaf = serving(&stranger);
    let chain = format!("{}{}", leaf.certificate_pem(), authority.certificate_pem());
    let forged = tls::server(&Credential::from_pem(chain, leaf.key_pem()).unwrap(), None).unwrap();
    assert!(handshake(forged, pinned()).is_err());
}

#[test]
fn an_unverified_client_believes_anybody_and_says_nothing_of_itself() {
    let authority = Authority::create("ca", now()).unwrap();
    let stranger = Authority::create("ca", now()).unwrap();
    let server = || tls::server(&serving(&stranger), Some(authority.certificate_pem())).unwrap();
    assert_eq!(handshake(server(), tls::unverified_client().unwrap()), Ok(None));
    assert!(handshake(server(), tls::client(authority.certificate_pem(), None).unwrap()).is_err());
}
