//! TLS for both legs: rustls on ring, TLS 1.2 and 1.3, and only suites with authenticated encryption (rustls has no
//! others). The server side can be reloaded while it serves; the client side verifies as its mode says and never
//! falls back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::error::{Error, Result};
use crate::wire::certificate::EndPoint;

/// The protocol name of direct TLS (PostgreSQL 17, `sslnegotiation=direct`).
pub(crate) const ALPN: &[u8] = b"postgresql";

/// Where system-wide certificate authorities live, by distribution.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The files of the client-facing leg.
#[derive(Clone, Debug)]
pub struct ServerFiles {
    /// PEM certificate chain, leaf first.
    pub cert: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
    /// PEM authorities; with them every client must present a certificate of one.
    pub client_ca: Option<PathBuf>,
    /// But for those that present none.
    pub certificate_optional: bool,
}

/// TLS towards clients.
#[derive(Debug)]
pub struct ServerTls {
    files: ServerFiles,
    /// Clients without TLS are refused.
    pub(crate) required: bool,
    identity: ArcSwap<Identity>,
}

/// What one handshake shows, and what a client's proof can be bound to for it.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) end_point: Option<EndPoint>,
}

impl ServerTls {
    /// Loads the files.
    ///
    /// # Errors
    /// A file that cannot be read or does not hold what it should, by name.
    pub fn load(files: ServerFiles, required: bool) -> Result<Self> {
        let identity = ArcSwap::from_pointee(server_identity(&files)?);
        Ok(Self { files, required, identity })
    }

    /// Loads the files anew; connections made from now on use them. On an error the old ones stay.
    ///
    /// # Errors
    /// As [`ServerTls::load`].
    pub fn reload(&self) -> Result<()> {
        self.identity.store(Arc::new(server_identity(&self.files)?));
        Ok(())
    }

    pub(crate) fn identity(&self) -> Arc<Identity> {
        self.identity.load_full()
    }
}

fn server_identity(files: &ServerFiles) -> Result<Identity> {
    let chain = certificates(&files.cert)?;
    let end_point = chain.first().and_then(|leaf| EndPoint::of(leaf));
    Ok(Identity { config: Arc::new(server_config(files, chain)?), end_point })
}

fn server_config(files: &ServerFiles, chain: Vec<CertificateDer<'static>>) -> Result<ServerConfig> {
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|e| Error::Config(format!("[listen] tls key {}: {e}", files.key.display())))?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Config(format!("[listen] tls: {e}")))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(path)?), provider());
            let verifier = if files.certificate_optional { verifier.allow_unauthenticated() } else { verifier };
            let verifier = verifier
                .build()
                .map_err(|e| Error::Config(format!("[listen] tls client_ca {}: {e}", path.display())))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|e| Error::Config(format!("[listen] tls cert {}: {e}", files.cert.display())))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// How the server's certificate is checked; libpq's words, without those that fall back to plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Encrypted, whoever the server is.
    Nothing,
    /// Signed by a known authority, under any name.
    Authority,
    /// Signed by a known authority, for this host.
    Full,
}

/// TLS towards PostgreSQL.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

impl ClientTls {
    /// For that host. Without `ca` the system's authorities are used. `require` with a `ca` checks the authority,
    /// as libpq does: who names an authority means it.
    ///
    /// # Errors
    /// A file that cannot be read, a host that is no name, no authorities at all.
    pub fn new(host: &str, verify: Verify, ca: Option<&Path>) -> Result<Self> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Error::Config(format!("host {host:?} is not a name TLS can verify")))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::Config(format!("TLS towards the server: {e}")))?;
        let verify = if verify == Verify::Nothing && ca.is_some() { Verify::Authority } else { verify };
        let mut config = match verify {
            Verify::Full => builder.with_root_certificates(roots(ca)?).with_no_client_auth(),
            Verify::Nothing => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Lenient { chain: None, provider: provider() }))
                .with_no_client_auth(),
            Verify::Authority => {
                let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(ca)?), provider())
                    .build()
                    .map_err(|e| Error::Config(format!("TLS towards the server ca: {e}")))?;
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(Lenient { chain: Some(chain), provider: provider() }))
                    .with_no_client_auth()
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { config: Arc::new(config), name })
    }
}

impl ClientTls {
    /// How to verify, for connections other than the relay's.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let named = |e: &dyn std::fmt::Display| Error::Config(format!("certificates in {}: {e}", path.display()));
    let found = CertificateDer::pem_file_iter(path)
        .map_err(|e| named(&e))?
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|e| named(&e))?;
    if found.is_empty() { Err(named(&"none found")) } else { Ok(found) }
}

fn authorities(path: &Path) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|e| Error::Config(format!("authority in {}: {e}", path.display())))?;
    }
    Ok(store)
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore> {
    if let Some(path) = ca {
        return authorities(path);
    }
    let Some(bundle) = SYSTEM_BUNDLES.iter().map(Path::new).find(|p| p.exists()) else {
        return Err(Error::Config(
            "TLS towards the server: no ca given and the system has no bundle of authorities".into(),
        ));
    };
    let mut store = RootCertStore::empty();
    // A system bundle may hold an authority webpki cannot read; the others still count.
    store.add_parsable_certificates(certificates(bundle)?);
    Ok(store)
}

/// `require` and `verify-ca`: the handshake's signatures are always checked, the chain if there are authorities,
/// the name never.
#[derive(Debug)]
struct Lenient {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        // webpki checks the name after the chain, so a wrong name means that the chain was good.
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
