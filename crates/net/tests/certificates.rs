//! Certificates that were good once, or were good for something else.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::{Host, soon};
use procession_model::{LaunchId, Secret};
use procession_net::{Address, ClientTls, Dial, SessionCa, dial};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const HOUR: Duration = Duration::from_secs(3600);

/// Dials a host whose authority is made here and whose certificate is valid in the given hours
/// from now, and says what became of it.
async fn dial_a_host_valid(from: i64, until: i64) -> String {
    let at = |hours: i64| {
        let distance = HOUR * hours.unsigned_abs() as u32;
        if hours < 0 { SystemTime::now() - distance } else { SystemTime::now() + distance }
    };
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::new(vec!["host".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (at(from).into(), at(until).into());
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client_key = KeyPair::generate().unwrap();
    let client =
        CertificateParams::new(vec!["client".to_owned()]).unwrap().signed_by(&client_key, &issuer).unwrap();
    let how = Dial {
        addresses: vec![format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap()],
        launch: LaunchId::fresh(),
        token: Secret::random(),
        tls: Some(ClientTls {
            ca: ca.der().to_vec(),
            certificate: client.der().to_vec(),
            key: client_key.serialize_der(),
            server_name: "host".into(),
        }),
        lease: Duration::ZERO,
    };
    let (result, _) = soon(async {
        tokio::join!(dial(&how), async {
            let stream = listener.accept().await.unwrap().0;
            // It goes once TLS is done, so a dialler that trusts it sees it leave.
            TlsAcceptor::from(Arc::new(config)).accept(stream).await.is_ok()
        })
    })
    .await;
    result.unwrap_err().to_string()
}

mod f104 {
    use super::*;

    #[tokio::test]
    async fn a_certificate_outside_its_time_is_refused_with_the_reason() {
        let text = dial_a_host_valid(-48, -1).await;
        assert!(text.contains("do not trust") && text.contains("expired"), "{text}");
        let text = dial_a_host_valid(1, 48).await;
        assert!(text.contains("do not trust") && text.contains("not valid yet"), "{text}");
        let text = dial_a_host_valid(-1, 48).await;
        assert!(text.contains("the host refused"), "within its time it is trusted: {text}");
    }

    #[tokio::test]
    async fn a_dialler_cannot_pose_as_the_host() {
        let ca = SessionCa::new("host").unwrap();
        let launch = LaunchId::fresh();
        let client = ca.issue(launch).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![client.certificate.clone().into()],
                PrivateKeyDer::Pkcs8(client.key.clone().into()),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: Address = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
        // Not even to one that would accept its name: the certificate is not one of a server.
        for server_name in ["host".to_owned(), format!("{launch}.launch")] {
            let tls = ClientTls { server_name, ..ca.issue(launch).unwrap() };
            let how = Dial {
                addresses: vec![address.clone()],
                launch,
                token: Secret::random(),
                tls: Some(tls),
                lease: Duration::ZERO,
            };
            let (result, _) = soon(async {
                tokio::join!(dial(&how), async {
                    TlsAcceptor::from(Arc::new(config.clone()))
                        .accept(listener.accept().await.unwrap().0)
                        .await
                        .is_ok()
                })
            })
            .await;
            let text = result.unwrap_err().to_string();
            assert!(text.contains("do not trust"), "{text}");
        }
    }
}

mod f103 {
    use super::*;

    #[tokio::test]
    async fn a_host_that_is_not_asked_for_tls_says_nothing() {
        let host = Host::tcp().await;
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", host.port())).await.unwrap();
        let (how, _call_back) = host.expect();
        let (_, hello) = procession_wire::ClientHandshake::new(how.launch, &how.token);
        tokio::io::AsyncWriteExt::write_all(&mut stream, &hello).await.unwrap();
        let mut answer = Vec::new();
        // Whether it resets the connection or ends it is all one.
        let _ = soon(tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer)).await;
        assert!(answer.len() <= 7, "at most TLS's own alert: {answer:?}");
    }
}
