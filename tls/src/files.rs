//! Certificates from files.
//!
//! Invariant: what is loaded works: the key is the certificate's, the CA has signed it, and it is valid today. Otherwise the
//! process does not start, and says why.

use crate::{Member, Tls};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the certificates of a process are, as it was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub ca: Option<PathBuf>,
}

impl Files {
    /// By option and variable, those that are given.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &'static str, &Path)> {
        let all = [
            ("--tls-cert", "SMACK_TLS_CERT", &self.cert),
            ("--tls-key", "SMACK_TLS_KEY", &self.key),
            ("--tls-ca", "SMACK_TLS_CA", &self.ca),
        ];
        all.into_iter().filter_map(|(option, variable, path)| Some((option, variable, path.as_deref()?)))
    }

    /// The same files, found from any folder.
    pub fn absolute(&self) -> Self {
        let absolute = |path: &Option<PathBuf>| {
            path.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()))
        };
        Self { cert: absolute(&self.cert), key: absolute(&self.key), ca: absolute(&self.ca) }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("encrypt connections: {given} needs {missing} as well")]
    Missing { given: &'static str, missing: &'static str },
    #[error("read {what} from {}: {reason}", path.display())]
    Read { what: &'static str, path: PathBuf, reason: String },
    #[error("use the certificate {} with the key {}: {reason}", cert.display(), key.display())]
    Key { cert: PathBuf, key: PathBuf, reason: String },
    #[error("use the certificate {}: {reason}", cert.display())]
    Certificate { cert: PathBuf, reason: String },
    #[error("encrypt connections: {0}")]
    Settings(String),
}

impl Tls {
    /// Nothing where no file is given.
    pub fn load(files: Files) -> Result<Option<Self>, Error> {
        let Some((given, ..)) = files.given().next() else { return Ok(None) };
        let missing = |missing| Error::Missing { given, missing };
        let ca = files.ca.as_deref().ok_or(missing("--tls-ca"))?;
        let roots = Arc::new(roots(ca)?);
        let provider = Arc::new(ring::default_provider());
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Settings(error.to_string()))?
            .with_root_certificates(Arc::clone(&roots));
        let (cert, key) = match (files.cert.as_deref(), files.key.as_deref()) {
            (Some(cert), Some(key)) => (cert, key),
            (Some(_), None) => return Err(Error::Missing { given: "--tls-cert", missing: "--tls-key" }),
            (None, Some(_)) => return Err(Error::Missing { given: "--tls-key", missing: "--tls-cert" }),
            (None, None) => {
                let client = Arc::new(client.with_no_client_auth());
                return Ok(Some(Self { files: files.absolute(), client, member: None }));
            }
        };
        let chain = certificates("a certificate", cert)?;
        let own_key = || {
            PrivateKeyDer::from_pem_file(key).map_err(|error| Error::Read {
                what: "a private key",
                path: key.to_path_buf(),
                reason: reason(&error),
            })
        };
        let wrong_key = |error: rustls::Error| Error::Key {
            cert: cert.to_path_buf(),
            key: key.to_path_buf(),
            reason: match error {
                rustls::Error::InconsistentKeys(_) => "they do not belong together".to_string(),
                error => error.to_string(),
            },
        };
        let members = verifier(&roots, &provider, false)?;
        check(&*members, &chain, cert, ca)?;
        let serve = |verifier| {
            let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .map_err(|error| Error::Settings(error.to_string()))?
                .with_client_cert_verifier(verifier)
                .with_single_cert(chain.clone(), own_key()?);
            let mut server = server.map_err(wrong_key)?;
            server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Ok::<_, Error>(Arc::new(server))
        };
        let member = Member { members: serve(members)?, everybody: serve(verifier(&roots, &provider, true)?)? };
        let client = client.with_client_auth_cert(chain.clone(), own_key()?).map_err(wrong_key)?;
        Ok(Some(Self { files: files.absolute(), client: Arc::new(client), member: Some(member) }))
    }
}

type Verifier = Arc<dyn rustls::server::danger::ClientCertVerifier>;

fn verifier(roots: &Arc<RootCertStore>, provider: &Arc<CryptoProvider>, everybody: bool) -> Result<Verifier, Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider));
    let verifier = if everybody { verifier.allow_unauthenticated() } else { verifier };
    verifier.build().map_err(|error| Error::Settings(error.to_string()))
}

/// Whether others will take it.
fn check(
    verifier: &dyn rustls::server::danger::ClientCertVerifier,
    chain: &[CertificateDer<'static>],
    cert: &Path,
    ca: &Path,
) -> Result<(), Error> {
    let Some((own, between)) = chain.split_first() else { return Ok(()) };
    verifier.verify_client_cert(own, between, UnixTime::now()).map(drop).map_err(|error| {
        let reason = match crate::error::of_certificate(&error) {
            Some(reason) => format!("{reason} (the CA is {})", ca.display()),
            None => error.to_string(),
        };
        Error::Certificate { cert: cert.to_path_buf(), reason }
    })
}

fn roots(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("the CA", path)? {
        roots.add(certificate).map_err(|error| Error::Read {
            what: "the CA",
            path: path.to_path_buf(),
            reason: error.to_string(),
        })?;
    }
    Ok(roots)
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let failed = |reason: String| Error::Read { what, path: path.to_path_buf(), reason };
    let found = CertificateDer::pem_file_iter(path).map_err(|error| failed(reason(&error)))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(|error| failed(reason(&error)))?;
    if found.is_empty() { Err(failed(reason(&pem::Error::NoItemsFound))) } else { Ok(found) }
}

fn reason(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => {
            "there is none in it; it must be in PEM, as `smack cert` and openssl write it".into()
        }
        pem::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}
