use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use procession_model::LaunchId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ED25519,
};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};

use crate::SessionKey;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Longer than any session; what ends a certificate's use is the end of its session's key.
const VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// What stands before the 32 bytes of an Ed25519 key in PKCS#8 (RFC 8410).
const ED25519_PKCS8: &[u8] = &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// Why keys or certificates could not be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A host id that cannot stand in a certificate.
    #[error("{0:?} cannot be a server's name: use letters, digits and inner hyphens, at most 63")]
    ServerName(String),
    /// The library for certificates failed.
    #[error("a certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The library for TLS refused what it was given.
    #[error("the certificates cannot be used for TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The certificate authority of one host's session, or of a session key; it lives and dies in the memory of a process.
pub struct SessionCa {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    host: String,
    server: Arc<ServerConfig>,
}

/// What a dialler needs for mutual TLS. `Debug` does not show the key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientTls {
    /// The session's authority, in DER.
    #[serde(with = "serde_bytes")]
    pub ca: Vec<u8>,
    /// The dialler's certificate, in DER.
    #[serde(with = "serde_bytes")]
    pub certificate: Vec<u8>,
    /// Its private key, in PKCS#8 DER.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// The id of the host, which its certificate has to name at whatever address it is reached.
    pub server_name: String,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl SessionCa {
    /// A new authority, and the certificate of the host whose id is `host_id`.
    ///
    /// # Errors
    /// The id cannot stand in a certificate.
    pub fn new(host_id: &str) -> Result<Self, TlsError> {
        Self::with(KeyPair::generate()?, host_id)
    }

    /// The authority of all who have `key`, each of whom can make it anew: its certificates are good wherever the same
    /// key is. This end calls itself `host_id` when it listens, and that is what it dials.
    ///
    /// # Errors
    /// The id cannot stand in a certificate.
    pub fn from_key(key: &SessionKey, host_id: &str) -> Result<Self, TlsError> {
        let seed = key.derive(b"procession 1 key of the authority");
        let key = PrivatePkcs8KeyDer::from([ED25519_PKCS8, &seed].concat());
        Self::with(KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519)?, host_id)
    }

    fn with(key: KeyPair, host_id: &str) -> Result<Self, TlsError> {
        if !matches!(ServerName::try_from(host_id), Ok(ServerName::DnsName(_))) || host_id.len() > 63 {
            return Err(TlsError::ServerName(host_id.to_owned()));
        }
        let mut params = params("procession session", None)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.der().clone();
        let issuer = Issuer::new(params, key);
        let (chain, key) = leaf(&issuer, host_id, ExtendedKeyUsagePurpose::ServerAuth)?;
        let server = server_config(&certificate, chain, key)?;
        Ok(Self { issuer, certificate, host: host_id.to_owned(), server })
    }

    /// A key and a certificate with which `launch`, and nobody else, can dial.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn issue(&self, launch: LaunchId) -> Result<ClientTls, TlsError> {
        let (certificate, key) =
            leaf(&self.issuer, &client_name(launch), ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok(ClientTls {
            ca: self.certificate.to_vec(),
            certificate: certificate.to_vec(),
            key: key.secret_pkcs8_der().to_vec(),
            server_name: self.host.clone(),
        })
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }
}

impl fmt::Debug for SessionCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCa").field("host", &self.host).finish_non_exhaustive()
    }
}

/// The name in a dialler's certificate. It is no host's: a host id has no dot.
fn client_name(launch: LaunchId) -> String {
    format!("{launch}.launch")
}

/// Whether `certificate` was issued for `launch`.
pub(crate) fn names_launch(certificate: &CertificateDer<'_>, launch: LaunchId) -> bool {
    let Ok(name) = ServerName::try_from(client_name(launch)) else { return false };
    ParsedCertificate::try_from(certificate).is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok())
}

fn params(common_name: &str, dns_name: Option<&str>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(dns_name.map(str::to_owned).into_iter().collect::<Vec<_>>())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // Clocks of machines differ, and a session must not fail for that.
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + VALIDITY).into();
    Ok(params)
}

fn leaf(
    issuer: &Issuer<'static, KeyPair>,
    name: &str,
    purpose: ExtendedKeyUsagePurpose,
) -> Result<(CertificateDer<'static>, PrivatePkcs8KeyDer<'static>), rcgen::Error> {
    let mut params = params(name, Some(name))?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    Ok((certificate.der().clone(), key.serialize_der().into()))
}

fn roots(ca: CertificateDer<'static>) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca)?;
    Ok(roots)
}

fn server_config(
    ca: &CertificateDer<'static>,
    chain: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca.clone())?.into(), provider.clone())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![chain], PrivateKeyDer::Pkcs8(key))?;
    // Each launch dials once: there is nothing to resume.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

pub(crate) fn client_config(tls: &ClientTls) -> Result<(Arc<ClientConfig>, ServerName<'static>), TlsError> {
    let name = ServerName::try_from(tls.server_name.clone())
        .map_err(|_| TlsError::ServerName(tls.server_name.clone()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(tls.ca.clone().into())?)
        .with_client_auth_cert(
            vec![tls.certificate.clone().into()],
            PrivateKeyDer::Pkcs8(tls.key.clone().into()),
        )?;
    config.resumption = rustls::client::Resumption::disabled();
    // The id of a host is nobody's business on the way.
    config.enable_sni = false;
    Ok((Arc::new(config), name))
}
