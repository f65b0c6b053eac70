//! Facts of mesh TLS, by real handshakes over in-memory streams.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::client::{ClientTls, connect};
use super::credentials::CredentialsError;
use super::csr::csr_der;
use super::server::{ServerSession, accept};
use super::testing::{Authority, runtime, server_tls};
use super::{Credentials, TlsError, identity_of, validity_of};
use crate::model::identity::{Identity, ServerTls};

const DAY: Duration = Duration::from_secs(86_400);
const ALPN: &[u8] = b"transport.l5d.io/v1";

type Handshake = (Result<ClientTls, TlsError>, Result<ServerSession, TlsError>);

async fn handshake(
    client: &Credentials,
    server: &Credentials,
    to: &ServerTls,
    alpn: (Option<&'static [u8]>, &[&'static [u8]]),
) -> Handshake {
    let (near, far) = duplex(1 << 16);
    tokio::join!(connect(Box::new(near), client, to, alpn.0), accept(Box::new(far), server, alpn.1),)
}

const NO_ALPN: (Option<&[u8]>, &[&[u8]]) = (None, &[]);

#[tokio::test]
async fn both_sides_learn_who_the_other_is_and_may_talk() {
    let (runtime, authority) = (runtime(), Authority::new("root"));
    let web = authority.credentials(&runtime, "web.ns.example");
    let books = authority.credentials(&runtime, "books.ns.example");
    let (client, server) = handshake(&web, &books, books.local(), NO_ALPN).await;
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    assert_eq!(server.client.as_ref(), Some(&web.local().identity));
    assert!(!client.alpn_agreed && server.alpn.is_none());
    client.io.write_all(b"hello").await.unwrap();
    client.io.shutdown().await.unwrap();
    let mut heard = Vec::new();
    server.io.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"hello");
    server.io.write_all(b"still here").await.unwrap();
    server.io.shutdown().await.unwrap();
    let mut answered = Vec::new();
    client.io.read_to_end(&mut answered).await.unwrap();
    assert_eq!(answered, b"still here");
}

#[tokio::test]
async fn the_identity_counts_and_the_server_name_does_not() {
    let (runtime, authority) = (runtime(), Authority::new("root"));
    let web = authority.credentials(&runtime, "web.ns.example");
    let books = authority.credentials(&runtime, "books.ns.example");
    let renamed = ServerTls {
        server_name: server_tls("elsewhere.example").server_name,
        ..books.local().clone()
    };
    let (client, _) = handshake(&web, &books, &renamed, NO_ALPN).await;
    assert!(client.is_ok());
    let (client, server) = handshake(&web, &books, &server_tls("tea.ns.example"), NO_ALPN).await;
    match client.err().unwrap() {
        TlsError::WrongIdentity { expected, found } => {
            assert_eq!(expected, server_tls("tea.ns.example").identity);
            assert_eq!(found.as_ref(), Some(&books.local().identity));
        }
        other => panic!("{other}"),
    }
    assert!(matches!(server.err().unwrap(), TlsError::Alert(_)));
}

#[tokio::test]
async fn a_uri_is_an_identity_too() {
    let (runtime, authority) = (runtime(), Authority::new("root"));
    let web = authority.credentials(&runtime, "web.ns.example");
    let spiffe = ServerTls {
        identity: Identity::new("spiffe://root/ns/vm").unwrap(),
        server_name: server_tls("vm.example").server_name,
    };
    let issued = authority.issue(&spiffe.identity, runtime.clock.wall(), DAY);
    assert_eq!(identity_of(&issued.leaf_der).as_ref(), Some(&spiffe.identity));
    let vm = Credentials::new(&runtime, spiffe.clone());
    vm.set_roots(authority.pem().as_bytes()).unwrap();
    vm.set_certificate(issued.leaf_der, Vec::new(), issued.key).unwrap();
    let (client, server) = handshake(&web, &vm, &spiffe, NO_ALPN).await;
    assert!(client.is_ok() && server.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_ends_with_its_time() {
    let (runtime, authority) = (runtime(), Authority::new("root"));
    let web = authority.credentials(&runtime, "web.ns.example");
    let books = authority.credentials(&runtime, "books.ns.example");
    tokio::time::advance(DAY + Duration::from_secs(1)).await;
    let (client, server) = handshake(&web, &books, books.local(), NO_ALPN).await;
    assert!(matches!(client.err().unwrap(), TlsError::Expired));
    assert!(matches!(server.err().unwrap(), TlsError::Alert(alert) if alert.contains("Expired")));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_has_run_out_is_no_hindrance_where_it_is_withheld() {
    let (runtime, authority) = (runtime(), Authority::new("root"));
    let web = authority.credentials(&runtime, "web.ns.example");
    tokio::time::advance(DAY + Duration::from_secs(1)).await;
    let books = authority.credentials(&runtime, "books.ns.example");
    let (_, server) = handshake(&web, &books, books.local(), NO_ALPN).await;
    assert!(matches!(server.err().unwrap(), TlsError::Expired));
    let (client, server) = handshake(&web.withheld(), &books, books.local(), NO_ALPN).await;
    assert!(client.is_ok());
    assert_eq!(server.unwrap().client, None);
}

#[tokio::test]
async fn strangers_are_refused_by_either_side() {
    let runtime = runtime();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let web = ours.credentials(&runtime, "web.ns.example");
    let evil = theirs.credentials(&runtime, "books.ns.example");
    let (client, _) = handshake(&web, &evil, evil.local(), NO_ALPN).await;
    assert!(matches!(client.err().unwrap(), TlsError::UnknownIssuer));
    // The stranger trusts us as well as its own, but we do not trust it.
    let both = format!("{}{}", ours.pem(), theirs.pem());
    evil.set_roots(both.as_bytes()).unwrap();
    let (client, server) = handshake(&evil, &web, web.local(), NO_ALPN).await;
    assert!(matches!(server.err().unwrap(), TlsError::UnknownIssuer));
    // In TLS 1.3 the client's handshake is over before the server has seen its certificate.
    let error = client.unwrap().io.read_u8().await.unwrap_err();
    assert!(error.to_string().contains("UnknownCA"), "{error}");
}

#[tokio::test]
async fn a_client_needs_no_certificate_and_a_server_does() {
    let (runtime, authority) = (runtime(), Authority::new("root"));
    let books = authority.credentials(&runtime, "books.ns.example");
    let newcomer = Credentials::new(&runtime, server_tls("new.ns.example"));
    let (client, _) = handshake(&newcomer, &books, books.local(), NO_ALPN).await;
    assert!(matches!(client.err().unwrap(), TlsError::NoCertificate));
    newcomer.set_roots(authority.pem().as_bytes()).unwrap();
    assert!(!newcomer.is_ready());
    let (client, server) = handshake(&newcomer, &books, books.local(), NO_ALPN).await;
    assert!(client.is_ok());
    assert_eq!(server.unwrap().client, None);
    let (_, server) = handshake(&books, &newcomer, newcomer.local(), NO_ALPN).await;
    assert!(matches!(server.err().unwrap(), TlsError::NoCertificate));
}

#[tokio::test]
async fn a_protocol_is_agreed_on_only_where_both_know_it() {
    let (runtime, authority) = (runtime(), Authority::new("root"));
    let web = authority.credentials(&runtime, "web.ns.example");
    let books = authority.credentials(&runtime, "books.ns.example");
    let offered = (Some(ALPN), &[ALPN][..]);
    let (client, server) = handshake(&web, &books, books.local(), offered).await;
    assert!(client.unwrap().alpn_agreed);
    assert_eq!(server.unwrap().alpn.as_deref(), Some(ALPN));
    let (client, server) = handshake(&web, &books, books.local(), (Some(ALPN), &[])).await;
    assert!(!client.unwrap().alpn_agreed);
    assert_eq!(server.unwrap().alpn, None);
}

#[tokio::test]
async fn renewal_and_new_anchors_hold_for_the_next_handshake() {
    let runtime = runtime();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let web = old.credentials(&runtime, "web.ns.example");
    let books = old.credentials(&runtime, "books.ns.example");
    let (before, _served) = handshake(&web, &books, books.local(), NO_ALPN).await;
    let issued = new.issue(&books.local().identity, runtime.clock.wall(), 2 * DAY);
    let refused = books.set_certificate(issued.leaf_der.clone(), Vec::new(), issued.key.clone());
    assert!(matches!(refused.unwrap_err(), CredentialsError::Refused(TlsError::UnknownIssuer)));
    let bundle = format!("{}{}", old.pem(), new.pem());
    books.set_roots(bundle.as_bytes()).unwrap();
    books.set_certificate(issued.leaf_der, Vec::new(), issued.key).unwrap();
    assert!(books.expires() > web.expires());
    let (client, _) = handshake(&web, &books, books.local(), NO_ALPN).await;
    assert!(matches!(client.err().unwrap(), TlsError::UnknownIssuer));
    web.set_roots(bundle.as_bytes()).unwrap();
    let (client, server) = handshake(&web, &books, books.local(), NO_ALPN).await;
    assert!(client.is_ok() && server.is_ok());
    before.unwrap().io.write_all(b"alive").await.unwrap();
}

#[tokio::test]
async fn a_certificate_for_another_key_or_name_is_not_taken() {
    let (runtime, authority) = (runtime(), Authority::new("root"));
    let web = authority.credentials(&runtime, "web.ns.example");
    let now = runtime.clock.wall();
    let mine = authority.issue(&web.local().identity, now, DAY);
    let other = authority.issue(&server_tls("books.ns.example").identity, now, DAY);
    assert!(matches!(
        web.set_certificate(mine.leaf_der, Vec::new(), other.key.clone()).unwrap_err(),
        CredentialsError::WrongKey
    ));
    assert!(matches!(
        web.set_certificate(other.leaf_der, Vec::new(), other.key).unwrap_err(),
        CredentialsError::Refused(TlsError::WrongIdentity { .. })
    ));
    assert!(matches!(
        web.set_roots(b"no certificate here").unwrap_err(),
        CredentialsError::InvalidRoots(_)
    ));
    assert!(web.is_ready());
}

#[tokio::test]
async fn garbage_and_silence_are_told_apart() {
    let (runtime, authority) = (runtime(), Authority::new("root"));
    let books = authority.credentials(&runtime, "books.ns.example");
    let (mut near, far) = duplex(1024);
    near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let error = accept(Box::new(far), &books, &[]).await.err().unwrap();
    assert!(matches!(error, TlsError::Protocol(_)), "{error}");
    let (near, far) = duplex(1024);
    drop(near);
    let error = accept(Box::new(far), &books, &[]).await.err().unwrap();
    assert!(matches!(error, TlsError::Closed), "{error}");
}

#[tokio::test]
async fn a_request_for_a_certificate_names_one_identity_and_nothing_else() {
    use x509_parser::prelude::{FromDer, X509CertificationRequest};
    let runtime = runtime();
    let key = runtime.crypto.generate_key().unwrap();
    let name = "web.ns.serviceaccount.identity.linkerd.cluster.local";
    let der = csr_der(&key, &Identity::new(name).unwrap()).unwrap();
    let (rest, csr) = X509CertificationRequest::from_der(&der).unwrap();
    assert!(rest.is_empty());
    let info = &csr.certification_request_info;
    assert_eq!(info.subject.iter().count(), 0);
    assert_eq!(*info.subject_pki.subject_public_key.data, *key.public_key());
    let extensions: Vec<_> = csr.requested_extensions().unwrap().collect();
    let text = format!("{extensions:?}");
    assert!(text.contains(name) && text.matches("DNSName").count() == 1, "{text}");
}

#[tokio::test]
async fn keys_are_not_printed() {
    let (runtime, authority) = (runtime(), Authority::new("root"));
    let web = authority.credentials(&runtime, "web.ns.example");
    assert_eq!(
        format!("{web:?}"),
        "Credentials { local: Dns(DnsName(\"web.ns.example\")), ready: true, .. }"
    );
    let issued = authority.issue(&web.local().identity, runtime.clock.wall(), DAY);
    assert_eq!(format!("{:?}", issued.key), "KeyPair(P-256)");
    let (from, until) = validity_of(&issued.leaf_der).unwrap();
    assert_eq!(until.since(from), DAY);
}

#[tokio::test]
async fn handshakes_stay_within_their_size() {
    let (runtime, authority) = (runtime(), Authority::new("root"));
    let web = authority.credentials(&runtime, "web.ns.example");
    let (near, far) = duplex(1 << 16);
    assert!(size_of_val(&connect(Box::new(near), &web, web.local(), None)) <= 1280);
    assert!(size_of_val(&accept(Box::new(far), &web, &[])) <= 1408);
}
